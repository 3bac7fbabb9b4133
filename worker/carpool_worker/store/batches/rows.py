"""Batches in SQL: whoever moves one does it with a guarded UPDATE and goes on only if it moved."""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from carpool_worker.models import Batch
from carpool_worker.models.tables import batches
from carpool_worker.states import OUT_BATCH_STATES, BatchState, Transition
from carpool_worker.store.batches import log


def get(connection: sa.Connection, batch_id: str) -> Batch | None:
    """Return the batch, or None."""
    row = connection.execute(sa.select(batches).where(batches.c.id == batch_id)).one_or_none()
    return None if row is None else as_batch(row)


def marked(connection: sa.Connection, batch_id: str) -> frozenset[str]:
    """Return the prefixes of a batch that are marked for the cache."""
    return frozenset(
        json.loads(connection.scalar(sa.select(batches.c.marked).where(batches.c.id == batch_id)) or "[]")
    )


def in_states(connection: sa.Connection, states: Iterable[BatchState]) -> list[Batch]:
    """Return the batches that are in one of `states`, oldest first."""
    found = sa.select(batches).where(batches.c.state.in_(list(states))).order_by(batches.c.id)
    return [as_batch(row) for row in connection.execute(found)]


def out(connection: sa.Connection) -> list[Batch]:
    """Return the batches that Anthropic has and has not ended."""
    return in_states(connection, OUT_BATCH_STATES)


def due_to_collect(connection: sa.Connection, now: int) -> list[str]:
    """Return the ended batches whose results wait to be collected, oldest first."""
    due = sa.select(batches.c.id).where(batches.c.state == BatchState.ENDED, batches.c.due_at <= now)
    return list(connection.scalars(due.order_by(batches.c.opened_at)))


def move(
    connection: sa.Connection,
    transition: Transition[BatchState],
    batch_id: str,
    submission: int | None = None,
    holding: int | None = None,
    **values: Any,
) -> bool:
    """Apply a transition to one batch and set `values`; return False where another was faster.

    `submission` is the number of the post that the move is about: after a later one it is not made. Nor is it where the
    batch holds other than `holding` requests.
    """
    guarded = sa.update(batches).where(batches.c.id == batch_id, batches.c.state.in_(transition.sources))
    if submission is not None:
        guarded = guarded.where(batches.c.submissions == submission)
    if holding is not None:
        guarded = guarded.where(batches.c.request_count == holding)
    moving = guarded.values(state=transition.target, **values).returning(*log.COLUMNS)
    moved = connection.execute(moving).one_or_none()
    if moved:
        log.note(connection, transition, moved, values.get("last_error"))
    return moved is not None


def hold(connection: sa.Connection, batch_id: str, submission: int, **values: Any) -> bool:
    """Set columns of a sealed batch that was tried so often; return False where it went on meanwhile."""
    held = sa.update(batches).where(
        batches.c.id == batch_id, batches.c.state == BatchState.SEALED, batches.c.submissions == submission
    )
    return connection.execute(held.values(**values)).rowcount == 1


def note(connection: sa.Connection, batch_id: str, **values: Any) -> None:
    """Set columns of a batch that are not its state."""
    connection.execute(sa.update(batches).where(batches.c.id == batch_id).values(**values))


def add_cost(connection: sa.Connection, batch_id: str, cost: Decimal, list_price: Decimal) -> None:
    """Add dollars to what a batch cost, and to what it would have cost outside a batch."""
    row = batches.c
    connection.execute(
        sa.update(batches)
        .where(row.id == batch_id)
        .values(
            cost=sa.func.coalesce(row.cost, Decimal(0)) + cost,
            list_price=sa.func.coalesce(row.list_price, Decimal(0)) + list_price,
        )
    )


def may_go_later(submit_by: int) -> sa.ColumnElement[bool]:
    """Return the condition that a batch need not be on its way by then (milliseconds since the epoch)."""
    return sa.or_(batches.c.submit_by.is_(None), batches.c.submit_by > submit_by)


def within(lane: str | None, model: str | None) -> list[sa.ColumnElement[bool]]:
    """Return the conditions that a batch is of that lane and of that model; None is any."""
    named = (batches.c.lane, lane), (batches.c.model, model)
    return [column == value for column, value in named if value is not None]


def as_batch(row: sa.Row[Any]) -> Batch:
    """Return the batch of a row that has all columns."""
    return Batch(**row._mapping)
