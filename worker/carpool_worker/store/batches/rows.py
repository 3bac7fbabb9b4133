"""SQL about batches: reading them, and changing all but their state (see transitions)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from carpool_worker.models import Batch
from carpool_worker.models.indexes import unfinished
from carpool_worker.models.tables import batches
from carpool_worker.states import OUT_BATCH_STATES, BatchState
from carpool_worker.units import Milliseconds


def get(connection: sa.Connection, batch_id: str) -> Batch | None:
    """Return the batch, or None."""
    row = connection.execute(sa.select(batches).where(batches.c.id == batch_id)).one_or_none()
    return None if row is None else as_batch(row)


def marked(connection: sa.Connection, batch_id: str) -> frozenset[str]:
    """Return the prefixes that are marked for the cache in a batch."""
    return frozenset(
        json.loads(connection.scalar(sa.select(batches.c.marked).where(batches.c.id == batch_id)) or "[]")
    )


def account_of(connection: sa.Connection, batch_id: str) -> str | None:
    """Return the account that makes a batch; None: the default one."""
    account: str | None = connection.scalar(sa.select(batches.c.account).where(batches.c.id == batch_id))
    return account


def first_id_at(at: int) -> str:
    """Return the lowest id that a batch opened then (milliseconds since the epoch) can have (UUIDv7: RFC 9562)."""
    return f"{max(0, at):012x}".ljust(32, "0")


def in_states(connection: sa.Connection, states: Iterable[BatchState]) -> list[Batch]:
    """Return the batches that are in one of `states`, none of them a final one, oldest first."""
    found = sa.select(batches).where(unfinished(*states)).order_by(batches.c.id)
    return [as_batch(row) for row in connection.execute(found)]


def out(connection: sa.Connection) -> list[Batch]:
    """Return the batches at Anthropic that have not ended."""
    return in_states(connection, OUT_BATCH_STATES)


def due_to_collect(connection: sa.Connection, now: Milliseconds) -> list[str]:
    """Return the ended batches whose results are due to be collected, oldest first."""
    due = sa.select(batches.c.id).where(unfinished(BatchState.ENDED), batches.c.due_at <= now)
    return list(connection.scalars(due.order_by(batches.c.opened_at)))


def annotate_sealed(connection: sa.Connection, batch_id: str, submission: int, why: str) -> bool:
    """Set why a sealed batch waits; return False if it was posted or moved on meanwhile."""
    return _change_sealed(connection, batch_id, submission, last_error=why)


def defer_sealed(
    connection: sa.Connection, batch_id: str, submission: int, due_at: Milliseconds, error: str
) -> bool:
    """Count a post that could not begin, and back off until `due_at`; return False if the batch moved on meanwhile."""
    return _change_sealed(
        connection, batch_id, submission, submissions=submission + 1, due_at=due_at, last_error=error
    )


def _change_sealed(connection: sa.Connection, batch_id: str, submission: int, **values: Any) -> bool:
    unchanged = sa.update(batches).where(
        batches.c.id == batch_id, batches.c.state == BatchState.SEALED, batches.c.submissions == submission
    )
    return connection.execute(unchanged.values(**values)).rowcount == 1


def delay_collection(connection: sa.Connection, batch_id: str, due_at: Milliseconds, error: str) -> None:
    """Have an ended batch collected again at `due_at`, as its results could not be read."""
    ended = sa.update(batches).where(batches.c.id == batch_id, batches.c.state == BatchState.ENDED)
    connection.execute(ended.values(due_at=due_at, last_error=error))


def note_incomplete(connection: sa.Connection, batch_id: str, at: Milliseconds) -> None:
    """Record when an ended batch's results were first read whole, and lacked some of its requests."""
    row = batches.c
    first = sa.update(batches).where(row.id == batch_id, row.incomplete_at.is_(None))
    connection.execute(first.where(row.state == BatchState.ENDED).values(incomplete_at=at))


def note_stopped(connection: sa.Connection, batch_id: str, at: Milliseconds) -> None:
    """Record that a batch was canceled at Anthropic, and not by Carpool."""
    connection.execute(sa.update(batches).where(batches.c.id == batch_id).values(stopped_at=at))


def add_cost(connection: sa.Connection, batch_id: str, cost: Decimal, list_price: Decimal) -> None:
    """Add dollars to the cost of a batch, and to its list price: its cost outside of a batch."""
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
    """Return the condition that a batch may be submitted later than that (milliseconds since the epoch)."""
    return sa.or_(batches.c.submit_by.is_(None), batches.c.submit_by > submit_by)


def may_end_later(deadline: int) -> sa.ColumnElement[bool]:
    """Return the condition that no request of a batch must be answered by that (milliseconds since the epoch)."""
    return sa.or_(batches.c.deadline.is_(None), batches.c.deadline > deadline)


def within(lane: str | None, model: str | None) -> list[sa.ColumnElement[bool]]:
    """Return the conditions that a batch is of that lane and model; None means any."""
    named = (batches.c.lane, lane), (batches.c.model, model)
    return [column == value for column, value in named if value is not None]


def as_batch(row: sa.Row[Any]) -> Batch:
    """Return the batch of a row that has all columns."""
    return Batch(**row._mapping)
