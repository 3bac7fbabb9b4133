"""`carpool advise`: what would cost less, judged by actual usage. A module for each kind of advice, all pure."""

from __future__ import annotations

from datetime import UTC, date, datetime

import sqlalchemy as sa

from carpool_worker.advisor import (
    answer_lengths,
    shared_prefixes,
    short_deadlines,
    small_batches,
    smaller_models,
)
from carpool_worker.advisor.advice import Advice, SpendRate
from carpool_worker.advisor.sampling import by_client_and_model, take
from carpool_worker.database import now, read
from carpool_worker.policies.deadlines import DeadlineRule
from carpool_worker.store import durations, usage
from carpool_worker.store.reports.calls import answered_since
from carpool_worker.store.reports.samples import opened_since

__all__ = ["Advice", "advise"]

MOST_BATCHES = 20_000
"""How many of the newest batches are examined."""


MOST_CALLS = 20_000
"""How many of the newest calls in real time are examined."""


def advise(
    engine: sa.Engine,
    since: str,
    client: str | None,
    flush_interval: float,
    rule: DeadlineRule | None = None,
) -> list[Advice]:
    """Return what to change, the largest saving first, from the usage since that day (UTC).

    `client` limits it to one client; there is no advice on lanes then, as clients share them.
    """
    with read(engine) as connection:
        used = usage.totals(connection, ("client", "model"), since, client=client)
        first = min(
            (row.day for row in usage.totals(connection, ("day",), since, client=client)), default=since
        )
        batches = opened_since(connection, _milliseconds(since), MOST_BATCHES)
        each_way = usage.totals(connection, ("client", "model", "processing"), since, client=client)
        calls = answered_since(connection, _milliseconds(since), client, MOST_CALLS)
        learned = durations.load(connection, {call.model for call in calls})
        samples = by_client_and_model(take(connection, batches, client))
    rate = SpendRate((now() - _milliseconds(first)) / 1000)
    today = datetime.now(UTC).date()
    advice = [
        *smaller_models.advise(used, rate, today),
        *shared_prefixes.advise(used, samples, batches, rate, today),
        *answer_lengths.advise(samples, today),
        *short_deadlines.advise(calls, each_way, learned, rule or DeadlineRule(), flush_interval, rate),
        *([] if client else small_batches.advise(batches, flush_interval)),
    ]
    return sorted(advice, key=lambda one: -one.saves_per_month)


def _milliseconds(day: str) -> int:
    at = date.fromisoformat(day)
    return int(datetime(at.year, at.month, at.day, tzinfo=UTC).timestamp() * 1000)
