"""What clients and keys may spend a day and a month, and whether a request is within that. Pure; periods are UTC.

What is spent and what is reserved are sums over rows, so that neither can drift. Limits are only as exact as the
estimates: an answer that costs more than was reserved for it is still paid, and leaves less room.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from carpool_worker.formatting import money
from carpool_worker.units import DOLLAR, Picodollars

DEFAULT = "default"
"""The budget of each client without one of its own, and of the client of that name."""

Amount = Annotated[Decimal, Field(gt=0, allow_inf_nan=False)]


class Over(StrEnum):
    """What happens to a request that is over budget."""

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
    def limits(self) -> dict[str, Picodollars]:
        """The limit of each limited period, in picodollars."""
        named = {"day": self.day, "month": self.month}
        return {
            period: Picodollars(int(amount * DOLLAR))
            for period, amount in named.items()
            if amount is not None
        }

    def allows(self, estimate: int) -> bool:
        """Return whether so many picodollars could be spent if nothing else were."""
        return estimate <= min(self.limits.values())


Budgets = Mapping[str, Budget]


def budget_of(budgets: Budgets, client: str) -> Budget | None:
    """Return a client's budget, or None where it has none."""
    return budgets.get(client) or budgets.get(DEFAULT)


@dataclass(frozen=True, slots=True)
class BudgetBalance:
    """What a client has spent of its budget, and reserved for answers that are still to come; in picodollars."""

    budget: Budget
    spent: Mapping[str, int]  # by period
    reserved: int = 0

    @property
    def room(self) -> Picodollars:
        """What may still be reserved; below 0 if answers cost more than estimated, or the budget was cut."""
        return self._left(self._tightest)

    def __str__(self) -> str:
        period = self._tightest
        taken = self.spent[period] + self.reserved
        return f"{money(self.budget.limits[period])} a {period}, {money(taken)} spent or reserved"

    def _left(self, period: str) -> Picodollars:
        return Picodollars(self.budget.limits[period] - self.spent[period] - self.reserved)

    @property
    def _tightest(self) -> str:
        return min(self.budget.limits, key=self._left)


def reason(owner: str, balance: BudgetBalance, estimate: int) -> str:
    """Return why a request is refused; the owner of the budget is as "client billing"."""
    if balance.budget.allows(estimate):
        budget = str(balance)
    else:
        budget = " and ".join(f"{money(limit)} a {period}" for period, limit in balance.budget.limits.items())
    return f"{owner} is over its budget: {budget}, this request is estimated at {money(estimate)}"


def waits_for(balance: BudgetBalance, estimate: int, whose: str = "its client's") -> str:
    """Return what a held request waits for."""
    needs = f"{balance}, this request is estimated at {money(estimate)}"
    return f"{whose} budget: {needs}; free again at 00:00 UTC, or as answers cost less than estimated"
