"""A piece of advice, and the rate at which money is spent."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from carpool_worker.units import DOLLAR

MONTH_SECONDS = 30 * 86_400
LEAST_SECONDS = 86_400
"""Less than a day of usage counts as a whole day's: an hour is not multiplied by 720."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What to change, why, how, and what that saves; never the content of a request."""

    kind: str
    subject: str  # a client and a model, or a lane
    what: str
    how: str
    saves_per_month: Decimal = Decimal(0)  # dollars, at the present rate
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SpendRate:
    """How many seconds the usage covers, to extrapolate amounts to a month."""

    seconds: float

    def monthly(self, amount: int) -> float:
        """Return what an amount comes to in 30 days."""
        return amount * MONTH_SECONDS / max(self.seconds, LEAST_SECONDS)

    def dollars(self, picodollars: float) -> Decimal:
        """Return what an amount (picodollars) comes to in 30 days, in dollars rounded to cents."""
        cents = self.monthly(int(picodollars)) * 100 / DOLLAR
        return Decimal(round(cents)) / 100


def subject(client: str, model: str) -> str:
    """Return the subject of advice on a client and a model."""
    return f"{client} · {model}"
