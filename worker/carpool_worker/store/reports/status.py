"""SQL about `carpool status`: each query reads a partial index, or what finished lately, and never all requests."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

import sqlalchemy as sa

from carpool_worker.models.indexes import ASIDE, AVAILABLE, DEAD, RETRYABLE, UNFINISHED
from carpool_worker.models.tables import answers, attempts, batches, deliveries, endpoints, requests, segments
from carpool_worker.states import BatchState, DeliveryState
from carpool_worker.store.deliveries.endpoints import count_failing
from carpool_worker.store.deliveries.receivers import is_parked, reasons_parked
from carpool_worker.store.reports import ids
from carpool_worker.store.requests.segments import first_id
from carpool_worker.units import DAY, Milliseconds

LONGEST_LIFE = Milliseconds(8 * DAY)
"""No batch takes longer from its first request to its end."""

LONGEST_FAILING = Milliseconds(5 * DAY)
"""What has failed for longer is no longer tried: its deliveries were given up, which is an alert of its own."""

ID_BYTES = 16
"""Of an id in a segment."""

LATEST_TRIES = 200
"""The last failed try to deliver is looked for among this many."""


class BatchCounts(NamedTuple):
    """The batches in one state; `opened_at`, in milliseconds since the epoch, is of the oldest."""

    state: BatchState
    batches: int
    requests: int
    opened_at: int


class Finished(NamedTuple):
    """The batches that finished lately; money in dollars, None if no price is known."""

    batches: int
    succeeded: int
    errored: int
    canceled: int
    expired: int
    cost: Decimal | None
    list_price: Decimal | None


class WaitingCount(NamedTuple):
    """How many wait, and when the first became or becomes due, in milliseconds since the epoch."""

    rows: int
    at: int | None


class Deliveries(NamedTuple):
    """Counts of deliveries, and of stopped endpoints."""

    due: WaitingCount
    retryable: WaitingCount
    dead: int
    dead_lately: int
    stopped_endpoints: int
    failing_endpoints: int = 0  # webhook URLs and queues that have taken nothing for minutes
    full: Sequence[str] = ()  # why receivers get nothing now, a sentence for each that has no room


class Mishap(NamedTuple):
    """A stored error, and what it happened to."""

    kind: str  # batch or delivery
    id: str
    error: str


def unfinished(connection: sa.Connection) -> list[BatchCounts]:
    """Count the unfinished batches by state, in the order in which a batch passes through the states."""
    row = batches.c
    counted = sa.select(
        row.state, sa.func.count(), sa.func.sum(row.request_count), sa.func.min(row.opened_at)
    )
    found = connection.execute(counted.where(UNFINISHED).group_by(row.state))
    counts = [BatchCounts(state, count, int(total), at) for state, count, total, at in found]
    return sorted(counts, key=lambda one: list(BatchState).index(one.state))


def finished_since(connection: sa.Connection, at: int) -> Finished:
    """Sum over the batches that have finished since then."""
    row = batches.c
    outcomes = [
        sa.type_coerce(sa.func.coalesce(sa.func.sum(row[name]), 0), sa.Integer)
        for name in Finished._fields[1:5]
    ]
    money = [sa.func.sum(row.cost), sa.func.sum(row.list_price)]
    counted = sa.select(sa.func.count(), *outcomes, *money)
    lately = counted.where(row.id >= ids.since(at - LONGEST_LIFE), row.finished_at >= at)
    return Finished._make(connection.execute(lately).one())


def stored_since(connection: sa.Connection, at: Milliseconds) -> tuple[int, int]:
    """Return how many requests have been taken out of the inbox since then, and how many answers were stored."""
    taken = sa.select(sa.func.sum(segments.c.requests)).where(segments.c.id >= first_id(at))
    stored = sa.select(sa.func.sum(sa.func.length(answers.c.ids))).where(answers.c.id >= first_id(at))
    both = sa.select(taken.scalar_subquery(), stored.scalar_subquery())
    count, size = (int(one or 0) for one in connection.execute(both).one())
    return count, size // ID_BYTES


def retryable(connection: sa.Connection) -> WaitingCount:
    """Count the requests that wait for another try, without held ones."""
    row = requests.c
    counted = sa.select(sa.func.count(), sa.func.min(row.retry_at)).where(RETRYABLE, row.held_at.is_(None))
    return WaitingCount(*connection.execute(counted).one())


def delivering(connection: sa.Connection, now: int, lately: int) -> Deliveries:
    """Count the deliveries by where they stand; `dead_lately` counts those given up since `lately`.

    What is due to a receiver that is parked counts as waiting for another try.
    """
    row = deliveries.c
    number = sa.func.sum(row.pending)
    died = sa.select(number, number.filter(row.discarded_at >= lately))
    dead = connection.execute(died.where(DEAD)).one()
    stopped = sa.select(sa.func.count()).where(endpoints.c.stopped_at.is_not(None))
    due, parked, retryable = (
        _waiting(connection, *conditions)
        for conditions in (
            (AVAILABLE, ~is_parked(now)),
            (AVAILABLE, is_parked(now)),
            (ASIDE, row.state == DeliveryState.RETRYABLE),
        )
    )
    later = [one.at for one in (parked, retryable) if one.at is not None]
    waiting = WaitingCount(parked.rows + retryable.rows, min(later, default=None))
    all_, newly = (int(count or 0) for count in dead)
    return Deliveries(
        due,
        waiting,
        all_,
        newly,
        connection.scalar(stopped) or 0,
        count_failing(connection, now, now - LONGEST_FAILING),
        reasons_parked(connection),
    )


def _waiting(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> WaitingCount:
    row = deliveries.c
    counted = sa.select(sa.func.sum(row.pending), sa.func.min(row.due_at)).where(*conditions)
    count, due_at = connection.execute(counted).one()
    return WaitingCount(int(count or 0), due_at)


def troubled(connection: sa.Connection, limit: int) -> list[Mishap]:
    """Return the last errors of up to `limit` unfinished batches that have one, the newest batches first."""
    row = batches.c
    erring = sa.select(row.id, row.last_error).where(UNFINISHED, row.last_error.is_not(None))
    # Not by id alone: SQLite would read all batches in that order.
    found = connection.execute(erring.order_by(row.opened_at.desc(), row.id.desc()).limit(limit))
    return [Mishap("batch", id_, error) for id_, error in found]


def last_failed_try(connection: sa.Connection) -> Mishap | None:
    """Return the error of the last failed try to deliver, or None if none of the latest failed."""
    row = attempts.c
    newest = sa.select(row.request_id, row.status, row.detail).order_by(row.id.desc()).limit(LATEST_TRIES)
    for request_id, status, detail in connection.execute(newest):
        if (status or 0) >= 300:
            return Mishap("delivery", request_id, f"answered {status}")
        if status is None and detail:
            return Mishap("delivery", request_id, detail)
    return None
