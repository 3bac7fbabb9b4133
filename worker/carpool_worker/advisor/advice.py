"""A piece of advice, and the pace at which money is spent."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from carpool_worker.units import DOLLAR

MONTH_SECONDS = 30 * 86_400
LEAST_SECONDS = 86_400
"""What was seen of less than a day counts as a day's: no hour is multiplied by 720."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What to change, why, how, and what that saves; never what a request says."""

    kind: str
    subject: str  # a client and a model, or a lane
    what: str
    how: str
    saves_per_month: Decimal = Decimal(0)  # dollars, at the rate seen
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pace:
    """How long was looked at, in seconds."""

    seconds: float

    def monthly(self, amount: int) -> float:
        """Return what an amount comes to in 30 days, at the rate seen."""
        return amount * MONTH_SECONDS / max(self.seconds, LEAST_SECONDS)

    def dollars(self, picodollars: float) -> Decimal:
        """Return what an amount comes to in 30 days, in dollars and cents at the rate seen."""
        cents = self.monthly(int(picodollars)) * 100 / DOLLAR
        return Decimal(round(cents)) / 100


def subject(client: str, model: str) -> str:
    """Return how a client and a model are named together."""
    return f"{client} · {model}"
