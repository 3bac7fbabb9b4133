"""What a client may spend a day and a month, and what follows from how it stands. Pure; days and months are UTC.

What is spent and what is reserved are sums over rows, so that neither can drift. A limit is held as far as the
estimates are right: an answer that costs more than was reserved for it is paid all the same, and leaves less room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from itertools import accumulate
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from carpool_worker.formatting import money
from carpool_worker.units import DOLLAR

DEFAULT = "default"
"""The budget of each client that has none of its own; it is that of the client of that name, too."""

Amount = Annotated[Decimal, Field(gt=0, allow_inf_nan=False)]


class Over(StrEnum):
    """What becomes of a request for which there is no room."""

    WAIT = "wait"
    REFUSE = "refuse"


class Budget(BaseModel):
    """Dollars that a client may spend a day, a month, or both."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    day: Amount | None = None
    month: Amount | None = None
    over: Over = Over.WAIT

    @model_validator(mode="after")
    def _limits(self) -> Budget:
        if self.day is None and self.month is None:
            raise ValueError("must say day or month, in dollars")
        return self

    @property
    def limits(self) -> dict[str, int]:
        """The picodollars of each period that it limits."""
        named = {"day": self.day, "month": self.month}
        return {period: int(amount * DOLLAR) for period, amount in named.items() if amount is not None}

    def allows(self, estimate: int) -> bool:
        """Tell whether so many picodollars can be spent at all, if nothing else is."""
        return estimate <= min(self.limits.values())


Budgets = Mapping[str, Budget]


def budget_of(budgets: Budgets, client: str) -> Budget | None:
    """Return a client's budget, or None where it has none."""
    return budgets.get(client) or budgets.get(DEFAULT)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a client stands against its budget, in picodollars; reserved is what waits for answers that are to come."""

    budget: Budget
    spent: Mapping[str, int]  # by period
    reserved: int = 0

    @property
    def room(self) -> int:
        """What may still be reserved; below 0 where answers cost more than was thought, or the budget was cut."""
        return self._left(self._tightest)

    def __str__(self) -> str:
        period = self._tightest
        taken = self.spent[period] + self.reserved
        return f"{money(self.budget.limits[period])} a {period}, {money(taken)} spent or reserved"

    def _left(self, period: str) -> int:
        return self.budget.limits[period] - self.spent[period] - self.reserved

    @property
    def _tightest(self) -> str:
        return min(self.budget.limits, key=self._left)


def fitting(estimates: Sequence[int], room: int) -> int:
    """Return how many of them fit, the first first: one that doesn't fit is not overtaken."""
    return sum(total <= room for total in accumulate(estimates))


def reason(client: str, standing: Standing, estimate: int) -> str:
    """Return why a request is refused."""
    if standing.budget.allows(estimate):
        said = str(standing)
    else:
        said = " and ".join(f"{money(limit)} a {period}" for period, limit in standing.budget.limits.items())
    return f"client {client} is over its budget: {said}, this request is estimated at {money(estimate)}"


def waits_for(standing: Standing, estimate: int) -> str:
    """Return what a request waits for that has no room yet."""
    needs = f"{standing}, this request is estimated at {money(estimate)}"
    return f"its client's budget: {needs}; free again at 00:00 UTC, or as answers cost less than estimated"
