"""SQL about `carpool retry`: which discarded requests can be retried, and making them retryable.

A retried request loses its old answer and its delivery, so that it gets one of each again; the tries to deliver stay.
Its retries are counted: the new delivery has another id, or a receiver that knows of the failure would drop it.
It has as many attempts as a new one. It bypasses its client's budget, but its cost counts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool_worker import database, transition_log
from carpool_worker.models.indexes import CANCEL_REQUESTED, FAILED, FINISHED, UNFINISHED
from carpool_worker.models.tables import answers, batches, params, requests, segments
from carpool_worker.states import RETRY
from carpool_worker.store.bulk import one_of
from carpool_worker.store.client_batches import counts
from carpool_worker.store.deliveries import coverage
from carpool_worker.store.requests.erasing import by_segment, erase
from carpool_worker.store.requests.rows import REAL_TIME, UNBATCHED, among
from carpool_worker.store.requests.segments import Place
from carpool_worker.units import HOUR

PRUNING_MARGIN = HOUR
"""Params that are due to be pruned within this time count as gone."""

RETRY_LOCK = 0x72657472
"""PostgreSQL's advisory lock on the contents of discarded requests: while some are retried, none is erased."""

UNBILLED = ("canceled", "expired")
"""Outcomes that cost nothing; `errored` costs nothing either, except for LOST_KINDS (API docs)."""

LOST_KINDS = ("result_missing", "results_gone", "answer_lost")
"""The types of Carpool's own errors for an answer that could not be read: it may have been made, and paid for."""

ENDED = (
    "outcome",
    "error",
    "answer_id",
    "answer_position",
    "input_tokens",
    "output_tokens",
    "cache_write_tokens",
    "cache_read_tokens",
    "cost",
    "list_price",
)
"""Columns of an end and its answer, which a retried request no longer has."""


class Chance(StrEnum):
    """Whether a discarded request can be retried, and whether it was paid for before."""

    FREE = "free"  # it cost nothing so far
    PAID = "paid"  # or perhaps: its answer was lost
    UNWANTED = "unwanted"  # its client canceled it
    GONE = "gone"  # its params are no longer kept
    BUSY = "busy"  # a courier is delivering its error right now


@dataclass(frozen=True)
class DiscardedFilter:
    """Which discarded requests; None is any. Times are milliseconds since the epoch."""

    kept_since: int  # requests discarded before then count as GONE
    ids: Sequence[str] | None = None
    client: str | None = None
    since: int | None = None  # discarded then or later
    until: int | None = None  # discarded before then
    error: str | None = None  # the type of the error that they failed with
    model: str | None = None

    def conditions(self, connection: sa.Connection) -> list[sa.ColumnElement[bool]]:
        """Return the filter as conditions on requests."""
        row = requests.c
        conditions: list[sa.ColumnElement[bool]] = [row.state.in_(RETRY.sources)]
        if self.ids is not None:
            conditions.append(among(connection, self.ids))
        else:
            conditions.append(one_of(connection, row.batch_id, self._batches(connection)))
        if self.client is not None:
            conditions.append(row.client == self.client)
        if self.since is not None:
            conditions.append(row.finished_at >= self.since)
        if self.until is not None:
            conditions.append(row.finished_at < self.until)
        if self.error is not None:
            conditions += [FAILED, row.error == self.error]
        if self.model is not None:
            # Not a join: the database might begin with all segments.
            of = sa.select(segments.c.model).where(segments.c.id == row.segment_id).correlate(requests)
            conditions.append(of.scalar_subquery() == self.model)
        return conditions

    def _batches(self, connection: sa.Connection) -> list[str]:
        """Return the batches with requests that may have been discarded lately enough."""
        since = max(self.since or 0, self.kept_since)
        lately = FINISHED, batches.c.finished_at >= since
        # Two queries, as each has an index; and apart from that for requests, which might begin with all of these.
        queries = (sa.select(batches.c.id).where(*one) for one in ((UNFINISHED,), lately))
        return [UNBATCHED, REAL_TIME, *(id_ for query in queries for id_ in connection.scalars(query))]

    def chance(self) -> sa.Case[Any]:
        """Return the Chance of a request, as SQL."""
        row = requests.c
        kept = sa.and_(row.position.is_not(None), sa.exists().where(params.c.id == row.segment_id))
        return sa.case(
            (CANCEL_REQUESTED, Chance.UNWANTED.value),
            (sa.or_(row.finished_at < self.kept_since, ~kept), Chance.GONE.value),
            (coverage.is_claimed(), Chance.BUSY.value),
            (_IS_FREE, Chance.FREE.value),
            else_=Chance.PAID.value,
        )


class DiscardedCount(NamedTuple):
    """How many discarded requests of a client and a model have this chance; `notified`: callbacks got their error."""

    client: str
    model: str
    chance: Chance
    rows: int
    notified: int


_FAILED = sa.and_(requests.c.outcome == "errored", requests.c.error.not_in(LOST_KINDS))
_IS_FREE = sa.or_(requests.c.outcome.in_(UNBILLED), _FAILED)


def count(connection: sa.Connection, wanted: DiscardedFilter) -> list[DiscardedCount]:
    """Count these requests by client, model and chance."""
    row = requests.c
    each = sa.select(
        row.client,
        segments.c.model,
        wanted.chance().label("chance"),
        sa.case((coverage.is_delivered(), 1), else_=0).label("notified"),
    ).join_from(requests, segments, segments.c.id == row.segment_id)
    one = each.where(*wanted.conditions(connection)).subquery().c
    counted = sa.select(one.client, one.model, one.chance, sa.func.count(), sa.func.sum(one.notified))
    found = connection.execute(counted.group_by(one.client, one.model, one.chance))
    return [
        DiscardedCount(client, model, Chance(chance), rows, int(notified))
        for client, model, chance, rows, notified in found
    ]


def retry(
    connection: sa.Connection, wanted: DiscardedFilter, chances: Sequence[Chance], limit: int, now: int
) -> int:
    """Make up to `limit` of these requests with these chances retryable, due at once; return how many."""
    database.lock(connection, RETRY_LOCK)
    row = requests.c
    some = sa.select(row.id, row.answer_id, row.answer_position, row.client_batch, row.outcome)
    some = some.where(*wanted.conditions(connection), wanted.chance().in_(chances)).limit(limit)
    found = list(connection.execute(some.order_by(row.id).with_for_update(of=requests)))
    busy = coverage.forget(connection, [one.id for one in found])
    found = [one for one in found if one.id not in busy]
    ids = [one.id for one in found]
    guarded = sa.update(requests).where(among(connection, ids), row.state.in_(RETRY.sources))
    retried = guarded.values(
        state=RETRY.target,
        attempt=0,
        retry_at=now,
        finished_at=None,
        retries=sa.func.coalesce(row.retries, 0) + 1,
        **dict.fromkeys(ENDED),
    )
    answered = [Place(one.answer_id, one.answer_position) for one in found if one.answer_id]
    erase(connection, answers, by_segment(answered))
    count = connection.execute(retried).rowcount
    counts.reopen(connection, _by_client_batch(found))
    transition_log.record_many(connection, f"requests {RETRY.target}", count, move=RETRY.verb)
    return count


def _by_client_batch(retried: Sequence[Any]) -> Mapping[str, Counter[str]]:
    """Return how many of these rows had which outcome, by their clients' batches."""
    outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in retried:
        if one.client_batch is not None:
            outcomes[one.client_batch][one.outcome] += 1
    return outcomes
