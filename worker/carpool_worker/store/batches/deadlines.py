"""SQL about deadlines: the batches with some that were not sent yet, and the requests whose turn it is.

Every statement reads few batches, by the index of the unfinished ones, and of each the requests that it asks for, by an
index of those with a deadline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from carpool_worker.models.indexes import OPEN, WITH_DEADLINE, unfinished
from carpool_worker.models.tables import batches, requests
from carpool_worker.states import OUT_BATCH_STATES, BatchState, RequestState
from carpool_worker.store.batches.rows import may_go_later
from carpool_worker.store.batches.transitions import seal
from carpool_worker.units import Milliseconds

UNSENT_STATES = (BatchState.OPEN, BatchState.SEALED)


class Watched(NamedTuple):
    """A batch with deadlines; times are in milliseconds since the epoch."""

    id: str
    state: BatchState
    model: str
    account: str | None
    opened_at: int
    submit_by: int | None
    deadline: int  # the earliest, or earlier


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
    connection: sa.Connection, batch_id: str, after: int, until: int, limit: int, *policies: str | None
) -> list[str]:
    """Return up to `limit` requests that wait in a batch and are due between these times, the most urgent first.

    Times are in milliseconds since the epoch. Only those count for which a deadline may cost one of `policies`.
    """
    row = requests.c
    among = sa.or_(*(row.deadline_policy.is_not_distinct_from(policy) for policy in policies))
    waiting = sa.select(row.id).where(
        WITH_DEADLINE, row.batch_id == batch_id, row.deadline > after, row.deadline <= until, among
    )
    wanted = waiting.where(row.state == RequestState.BATCHED, row.cancel_requested_at.is_(None))
    return list(connection.scalars(wanted.order_by(row.deadline).limit(limit)))


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
