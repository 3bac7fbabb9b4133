"""When the holder of a budget is warned: at some shares of it, each once a period. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from carpool_worker.policies.budgets import BudgetBalance
from carpool_worker.units import SECOND, Milliseconds, Picodollars

PERCENTS = (50, 80, 100)

CLOSE = 2
"""Percent: a budget that is used up but for so little counts as used up, as hardly a request fits into the rest."""


class BudgetShare(NamedTuple):
    """A share of a key's budget that is used up: spent, or reserved for answers to come."""

    gateway_key: str
    period: str  # a day as 2026-11-22, or a month as 2026-11; UTC
    percent: int
    budget: Picodollars
    used: Picodollars


def periods(at: Milliseconds) -> dict[str, str]:
    """Return the day and the month of a time, as warnings name them."""
    day = datetime.fromtimestamp(at / SECOND, UTC).date().isoformat()
    return {"day": day, "month": day[:7]}


def used_up(key: str, balance: BudgetBalance, at: Milliseconds) -> Iterator[BudgetShare]:
    """Yield the shares of a key's budget that are used up now, the smallest first."""
    named = periods(at)
    for period, limit in balance.budget.limits.items():
        used = Picodollars(balance.spent[period] + balance.reserved)
        for percent in PERCENTS:
            least = percent - CLOSE if percent == 100 else percent
            if used * 100 >= limit * least:
                yield BudgetShare(key, named[period], percent, limit, used)
