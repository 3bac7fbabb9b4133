"""How time, age, money and counts are printed, everywhere an operator reads them. Pure."""

from __future__ import annotations

from decimal import Decimal

from carpool_worker.units import DOLLAR


def exact(picodollars: int) -> Decimal:
    """Return dollars to the last digit that isn't zero, never as a power of ten."""
    return Decimal(f"{Decimal(picodollars) / DOLLAR:f}")
