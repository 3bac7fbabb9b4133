"""How things stand, in SQL: each query reads a partial index, or what finished lately, and never all requests."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import sqlalchemy as sa

from carpool_worker.models.indexes import DEAD, RETRYABLE, UNDELIVERED, UNFINISHED
from carpool_worker.models.tables import attempts, batches, deliveries, endpoints, requests
from carpool_worker.states import BatchState, DeliveryState
from carpool_worker.store.reports import ids

LONGEST_LIFE = 8 * 86_400_000
"""Milliseconds from a batch's first request to its end, and more: what ended today was opened no longer ago."""

LATEST_TRIES = 200
"""Tries to deliver among which the last one that failed is looked for."""


class BatchCounts(NamedTuple):
    """The batches in one state; the oldest was opened at, in milliseconds since the epoch."""

    state: BatchState
    batches: int
    requests: int
    opened_at: int


class Finished(NamedTuple):
    """What finished lately; money in dollars, and None where no price is known of any."""

    batches: int
    succeeded: int
    errored: int
    canceled: int
    expired: int
    cost: Decimal | None
    list_price: Decimal | None


class WaitingCount(NamedTuple):
    """How many wait, and since or until when the first does, in milliseconds since the epoch."""

    rows: int
    at: int | None


class Deliveries(NamedTuple):
    """Deliveries by where they stand."""

    due: WaitingCount
    retryable: WaitingCount
    dead: int
    dead_lately: int
    stopped_endpoints: int


class Mishap(NamedTuple):
    """An error that was kept, and what it happened to."""

    kind: str  # batch or delivery
    id: str
    error: str


def unfinished(connection: sa.Connection) -> list[BatchCounts]:
    """Return how many batches are in which state, in the order of their lives."""
    row = batches.c
    counted = sa.select(
        row.state, sa.func.count(), sa.func.sum(row.request_count), sa.func.min(row.opened_at)
    )
    found = connection.execute(counted.where(UNFINISHED).group_by(row.state))
    standings = [BatchCounts(state, count, int(total), at) for state, count, total, at in found]
    return sorted(standings, key=lambda standing: list(BatchState).index(standing.state))


def finished_since(connection: sa.Connection, at: int) -> Finished:
    """Return what has finished since then."""
    row = batches.c
    outcomes = [
        sa.type_coerce(sa.func.coalesce(sa.func.sum(row[name]), 0), sa.Integer)
        for name in Finished._fields[1:5]
    ]
    money = [sa.func.sum(row.cost), sa.func.sum(row.list_price)]
    counted = sa.select(sa.func.count(), *outcomes, *money)
    lately = counted.where(row.id >= ids.since(at - LONGEST_LIFE), row.finished_at >= at)
    return Finished._make(connection.execute(lately).one())


def retryable(connection: sa.Connection) -> WaitingCount:
    """Return how many requests wait for another try, and when the first goes."""
    row = requests.c
    counted = sa.select(sa.func.count(), sa.func.min(row.retry_at)).where(RETRYABLE, row.held_at.is_(None))
    return WaitingCount(*connection.execute(counted).one())


def delivering(connection: sa.Connection, now: int, lately: int) -> Deliveries:
    """Return how the deliveries stand, and how many were given up on since `lately`."""
    row = deliveries.c
    died = sa.select(sa.func.count(), sa.func.count().filter(row.discarded_at >= lately))
    dead = connection.execute(died.where(DEAD)).one()
    stopped = sa.select(sa.func.count()).where(endpoints.c.stopped_at.is_not(None))
    return Deliveries(
        _in_state(connection, DeliveryState.AVAILABLE),
        _in_state(connection, DeliveryState.RETRYABLE),
        *dead,
        connection.scalar(stopped) or 0,
    )


def _in_state(connection: sa.Connection, state: DeliveryState) -> WaitingCount:
    row = deliveries.c
    counted = sa.select(sa.func.count(), sa.func.min(row.due_at)).where(row.state == state, UNDELIVERED)
    return WaitingCount(*connection.execute(counted).one())


def troubled(connection: sa.Connection, limit: int) -> list[Mishap]:
    """Return the newest batches that are not finished and whose last error is kept, up to `limit`."""
    row = batches.c
    erring = sa.select(row.id, row.last_error).where(UNFINISHED, row.last_error.is_not(None))
    found = connection.execute(erring.order_by(row.id.desc()).limit(limit))
    return [Mishap("batch", id_, error) for id_, error in found]


def last_failed_try(connection: sa.Connection) -> Mishap | None:
    """Return the last of the newest tries to deliver that failed."""
    row = attempts.c
    newest = sa.select(row.request_id, row.status, row.detail).order_by(row.id.desc()).limit(LATEST_TRIES)
    for request_id, status, detail in connection.execute(newest):
        if (status or 0) >= 300:
            return Mishap("delivery", request_id, f"answered {status}")
        if status is None and detail:
            return Mishap("delivery", request_id, detail)
    return None
