"""Retries discarded requests, and estimates beforehand what that may cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import sqlalchemy as sa

from carpool_worker.database import now, write
from carpool_worker.settings import Settings
from carpool_worker.store import usage
from carpool_worker.store.requests import discarded
from carpool_worker.store.requests.discarded import PRUNING_MARGIN, DiscardedCount
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import DAY, DOLLAR
from carpool_worker.views import lookup

log = get_logger(__name__)

Chance = discarded.Chance
"""Whether a discarded request can be retried, and what that may cost."""

DiscardedFilter = discarded.DiscardedFilter
"""Which discarded requests."""

STEP = 500
"""Requests retried in one transaction."""


@dataclass
class Estimate:
    """What a retry may cost: how many requests have each chance, and their cost in dollars as far as it is known."""

    counts: dict[Chance, int] = field(default_factory=dict)
    notified: int = 0  # of those that can be retried: callbacks that know of the failure
    cost: Decimal = Decimal(0)
    unpriced: int = 0  # of those that can be retried: their client has no priced answer of that model

    def count(self, chances: Sequence[Chance]) -> int:
        """Return how many have one of these chances."""
        return sum(self.counts.get(chance, 0) for chance in chances)


def chances(*, even_paid: bool) -> list[Chance]:
    """Return the chances that a retry accepts: with `even_paid` also those that may be paid for twice."""
    return [Chance.FREE, Chance.PAID] if even_paid else [Chance.FREE]


def choose(
    connection: sa.Connection,
    settings: Settings,
    ids: Sequence[str] | None = None,
    client: str | None = None,
    since: int | None = None,
    error: str | None = None,
    model: str | None = None,
) -> DiscardedFilter:
    """Return a filter for discarded requests: all, or those with these ids (or beginnings), of a client, since a time.

    With an error's type or a model, those that failed so, or are of that model.

    Raises:
        UnknownId, AmbiguousId.
    """
    at = now()
    named = [lookup.request_id(connection, one) for one in ids] if ids else None
    kept_since = at - int(settings.params_retention_days * DAY) + PRUNING_MARGIN
    return DiscardedFilter(kept_since, named, client, since, until=at, error=error, model=model)


def estimate(connection: sa.Connection, wanted: DiscardedFilter, chances: Sequence[Chance]) -> Estimate:
    """Return what a retry may cost, by what answers of the same client and model have cost on average."""
    averages = _averages(connection)
    found = Estimate()
    for row in discarded.count(connection, wanted):
        found.counts[row.chance] = found.counts.get(row.chance, 0) + row.rows
        if row.chance in chances:
            found.notified += row.notified
            _add_cost(found, row, averages)
    return found


def retry(engine: sa.Engine, wanted: DiscardedFilter, chances: Sequence[Chance], *, actor: str) -> int:
    """Retry these requests, with as many attempts as new ones; return how many. None is retried twice by one call."""
    total = step = 0
    while True:
        with write(engine) as connection:
            step = discarded.retry(connection, wanted, chances, STEP, now())
        total += step
        if step < STEP:
            log.info("requests retried by operator", actor=actor, count=total)
            return total


def _add_cost(found: Estimate, row: DiscardedCount, averages: dict[tuple[str, str], Decimal]) -> None:
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
