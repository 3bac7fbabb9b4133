"""What a month will have cost at its end, from what it has cost so far. Pure."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

DAYS_LOOKED_AT = 7
"""The rest of a month is taken to cost what this many whole days before today have cost, in the mean: so a weekend
counts as much as it does in a week."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """A month so far and at its end; dollars."""

    month: str  # as 2026-11
    to_date: Decimal
    at_end: Decimal


def forecast(costs: Mapping[str, Decimal], today: date) -> Forecast:
    """Return the forecast for the month of `today`; `costs` are dollars by day, as 2026-11-22, also of the days before.

    Today counts with what it has cost, and as a whole day at least at the mean of the days before it.
    """
    month = f"{today:%Y-%m}"
    to_date = sum(
        (cost for day, cost in costs.items() if day[:7] == month and day <= today.isoformat()), Decimal(0)
    )
    before = [(today - timedelta(n + 1)).isoformat() for n in range(DAYS_LOOKED_AT)]
    first = min(costs, default=today.isoformat())
    known = [costs.get(day, Decimal(0)) for day in before if day >= first]
    mean = sum(known, Decimal(0)) / len(known) if known else costs.get(today.isoformat(), Decimal(0))
    rest_of_today = max(Decimal(0), mean - costs.get(today.isoformat(), Decimal(0)))
    days_left = monthrange(today.year, today.month)[1] - today.day
    return Forecast(month=month, to_date=to_date, at_end=to_date + rest_of_today + mean * days_left)
