"""SQL about deadlines: the batches with some that were not sent yet, and the requests whose turn it is.

Every statement reads few batches, by the index of the unfinished ones, and of each the requests that it asks for, by an
index of those with a deadline.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from carpool.keywords import DEADLINE_POLICIES
from carpool_worker.models.indexes import OPEN, RETRYABLE, WITH_DEADLINE, unfinished
from carpool_worker.models.tables import batches, real_time_calls, requests, segments
from carpool_worker.states import OUT_BATCH_STATES, BatchState, RequestState
from carpool_worker.store.batches.rows import may_go_later
from carpool_worker.store.batches.transitions import seal
from carpool_worker.store.requests.cancellations import UNSENT_STATES
from carpool_worker.units import Milliseconds

_, BATCH_ONLY, PAY_AGAIN = DEADLINE_POLICIES


class Watched(NamedTuple):
    """A batch with deadlines; times are in milliseconds since the epoch."""

    id: str
    state: BatchState
    model: str
    account: str | None
    opened_at: int
    submit_by: int | None
    deadline: int  # the earliest, or earlier


class Retrying(NamedTuple):
    """A request that waits for another try."""

    id: str
    client: str
    model: str
    account: str | None
    deadline: int


def unsent(connection: sa.Connection) -> list[Watched]:
    """Return the open and sealed batches with deadlines, the most urgent first."""
    return _watched(connection, UNSENT_STATES)


def out(connection: sa.Connection) -> list[Watched]:
    """Return the batches at Anthropic with deadlines, the most urgent first."""
    return _watched(connection, OUT_BATCH_STATES)


def send_now(connection: sa.Connection, ids: Sequence[str], at: Milliseconds) -> list[str]:
    """Seal those of these batches that are open and not being filled, and have all sent at once that are sealed.

    Returns the ids of those that are newly sealed.
    """
    row = batches.c
    opened = sa.select(row.id).where(OPEN, row.id.in_(ids), row.request_count > 0)
    locked = connection.scalars(opened.with_for_update(skip_locked=True)).all()
    sealed = [batch_id for batch_id in locked if seal(connection, batch_id, at)]
    waiting = sa.update(batches).where(unfinished(BatchState.SEALED), row.id.in_(ids), may_go_later(at))
    connection.execute(waiting.values(submit_by=at))
    return sealed


def due(
    connection: sa.Connection, batch: Watched, at: int, until: int, but_of: Collection[str], limit: int
) -> dict[str, str]:
    """Return up to `limit` requests of a batch that may be called and are due until then, and of which client each is.

    The most urgent come first; those whose deadline has passed are left out, and those of clients among `but_of`. Of a
    batch that Anthropic has, they are those whose clients pay again, and that are not called already.
    """
    row, call = requests.c, real_time_calls.c
    waiting = sa.select(row.id, row.client).where(
        WITH_DEADLINE,
        row.batch_id == batch.id,
        row.deadline > at,
        row.deadline <= until,
        row.state == RequestState.BATCHED,
        row.cancel_requested_at.is_(None),
        row.client.not_in(but_of),
    )
    if batch.state in UNSENT_STATES:
        wanted = waiting.where(sa.func.coalesce(row.deadline_policy, "") != BATCH_ONLY)
    else:
        is_called = call.request_id == row.id, call.round == sa.func.coalesce(row.retries, 0)
        wanted = waiting.where(row.deadline_policy == PAY_AGAIN, sa.not_(sa.exists().where(*is_called)))
    first = wanted.order_by(row.deadline, row.id).limit(limit)
    return {one.id: one.client for one in connection.execute(first)} if limit else {}


def retrying(connection: sa.Connection, at: int, limit: int) -> list[Retrying]:
    """Return the requests with a deadline among the `limit` that wait longest for another try, the most urgent first.

    Those whose deadline has passed are left out, and those that are never to be called.
    """
    row, of = requests.c, segments.c
    last = sa.select(*(row[name] for name in ("id", "client", "segment_id", "deadline", "deadline_policy")))
    last = last.where(RETRYABLE, row.state == RequestState.RETRYABLE, row.held_at.is_(None))
    waiting = last.order_by(row.retry_at.desc()).limit(limit).subquery().c
    urgent = (
        sa.select(waiting.id, waiting.client, of.model, of.account, waiting.deadline)
        .join(segments, of.id == waiting.segment_id)
        .where(waiting.deadline > at, sa.func.coalesce(waiting.deadline_policy, "") != BATCH_ONLY)
        .order_by(waiting.deadline)
    )
    return [Retrying._make(one) for one in connection.execute(urgent)]


def refresh(connection: sa.Connection, batch_id: str) -> None:
    """Correct a batch's deadline, as requests have left it; the earliest of the others is in time for all."""
    row = requests.c
    earliest = sa.select(sa.func.min(row.deadline)).where(WITH_DEADLINE, row.batch_id == batch_id)
    of_unsent = sa.update(batches).where(batches.c.id == batch_id, batches.c.state.in_(UNSENT_STATES))
    connection.execute(of_unsent.values(deadline=earliest.scalar_subquery()))


def _watched(connection: sa.Connection, states: Sequence[BatchState]) -> list[Watched]:
    row = batches.c
    columns = (row[name] for name in Watched._fields)
    found = sa.select(*columns).where(unfinished(*states), row.deadline.is_not(None), row.request_count > 0)
    return [Watched._make(one) for one in connection.execute(found.order_by(row.deadline))]
