"""Puts discarded requests back at an operator's word, and says beforehand what that may cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import sqlalchemy as sa

from carpool_worker.database import now, write
from carpool_worker.store import usage
from carpool_worker.store.requests import discarded
from carpool_worker.store.requests.discarded import Chance, Counted, Wanted
from carpool_worker.units import DOLLAR

STEP = 500
"""Requests put back in one transaction."""


@dataclass
class Estimate:
    """What putting requests back may come to: how many of each chance, and their cost in dollars as far as known."""

    counts: dict[Chance, int] = field(default_factory=dict)
    told: int = 0  # of those that can be put back: callbacks that were told of the failure
    cost: Decimal = Decimal(0)
    unpriced: int = 0  # of those that can be put back: no cost is known of any such

    def count(self, chances: Sequence[Chance]) -> int:
        """Return how many have one of these chances."""
        return sum(self.counts.get(chance, 0) for chance in chances)


def estimate(connection: sa.Connection, wanted: Wanted, chances: Sequence[Chance]) -> Estimate:
    """Return what it may come to, by what the answers of the same client and model have cost on average."""
    averages = _averages(connection)
    found = Estimate()
    for row in discarded.count(connection, wanted):
        found.counts[row.chance] = found.counts.get(row.chance, 0) + row.rows
        if row.chance in chances:
            found.told += row.told
            _add_cost(found, row, averages)
    return found


def put_back(engine: sa.Engine, wanted: Wanted, chances: Sequence[Chance]) -> int:
    """Put back these requests; return how many. What is discarded again meanwhile stays so."""
    total = step = 0
    while True:
        with write(engine) as connection:
            step = discarded.put_back(connection, wanted, chances, STEP, now())
        total += step
        if step < STEP:
            return total


def _add_cost(found: Estimate, row: Counted, averages: dict[tuple[str, str], Decimal]) -> None:
    average = averages.get((row.client, row.model))
    if average is None:
        found.unpriced += row.rows
    else:
        found.cost += average * row.rows


def _averages(connection: sa.Connection) -> dict[tuple[str, str], Decimal]:
    priced = [row for row in usage.totals(connection, ["client", "model"]) if row.requests > row.unpriced]
    return {
        (row.client, row.model): Decimal(row.cost) / DOLLAR / (row.requests - row.unpriced) for row in priced
    }
