"""SQL about the queue: sealed batches in their order, and how many requests Anthropic has already."""

from __future__ import annotations

from collections import Counter

import sqlalchemy as sa

from carpool_worker.database import lock
from carpool_worker.models.indexes import unfinished
from carpool_worker.models.tables import batches
from carpool_worker.policies.admission import Ready
from carpool_worker.states import QUEUED_BATCH_STATES, BatchState
from carpool_worker.store.batches.rows import may_go_later, within

QUEUE_ORDER = (batches.c.priority.desc(), batches.c.opened_at, batches.c.id)
"""The order in which batches are submitted while there is no room for all."""

WARMING_STATES = (BatchState.SEALED, *QUEUED_BATCH_STATES)
"""The states of a warm-up that has not ended."""

QUEUE_LOCK = 0x63617270
"""PostgreSQL's advisory lock on the number of requests at Anthropic."""


def ready(connection: sa.Connection, now: int) -> list[Ready]:
    """Return the sealed batches whose back-off is over, the highest priority first, then the oldest.

    The parts of a split batch keep its age. Batches that wait for their warm-up are left out.
    """
    due = sa.select(*(batches.c[name] for name in Ready._fields)).where(
        unfinished(BatchState.SEALED), batches.c.due_at <= now, sa.not_(_awaits_warm_up(now))
    )
    return [Ready._make(row) for row in connection.execute(due.order_by(*QUEUE_ORDER))]


def warming(connection: sa.Connection, now: int) -> set[str]:
    """Return the ids of the sealed batches that wait for their warm-up to end."""
    waiting = sa.select(batches.c.id).where(unfinished(BatchState.SEALED), _awaits_warm_up(now))
    return set(connection.scalars(waiting))


def _awaits_warm_up(now: int) -> sa.ColumnElement[bool]:
    row, warm_up = batches.c, batches.alias("warm_up")
    is_unended = warm_up.c.finished_at.is_(None), warm_up.c.state.in_(WARMING_STATES)
    unended = sa.exists().where(warm_up.c.id == row.warm_up_id, *is_unended)
    return sa.and_(sa.func.coalesce(row.warm_until, 0) > now, may_go_later(now), unended)


def expedite(
    connection: sa.Connection, submit_by: int, lane: str | None = None, model: str | None = None
) -> int:
    """Bring `submit_by` of every sealed batch (of that lane, of that model) forward; return how many were later."""
    later = sa.update(batches).where(unfinished(BatchState.SEALED), may_go_later(submit_by))
    return connection.execute(later.where(*within(lane, model)).values(submit_by=submit_by)).rowcount


def queued(connection: sa.Connection) -> Counter[str | None]:
    """Return how many requests Anthropic has, or may have, in batches that have not ended, by account."""
    row = batches.c
    out = sa.select(row.account, sa.func.sum(row.request_count)).where(unfinished(*QUEUED_BATCH_STATES))
    found = connection.execute(out.group_by(row.account))
    return Counter({account: int(count) for account, count in found})


def count_under_way(connection: sa.Connection, lane: str) -> int:
    """Return how many batches of a lane are sealed and not ended."""
    under_way = unfinished(BatchState.SEALED, *QUEUED_BATCH_STATES)
    query = sa.select(sa.func.count(batches.c.id)).where(under_way, batches.c.lane == lane)
    return int(connection.scalar(query) or 0)


def next_due(connection: sa.Connection) -> int | None:
    """Return when the next batch is due to be submitted or collected (milliseconds since the epoch), if any waits."""
    waiting = unfinished(BatchState.SEALED, BatchState.ENDED)
    earliest = sa.select(sa.func.min(batches.c.due_at)).where(waiting)
    due_at: int | None = connection.scalar(earliest)
    return due_at


def lock_queue(connection: sa.Connection) -> None:
    """Let no other process decide about room in the queue until this transaction ends."""
    lock(connection, QUEUE_LOCK)
