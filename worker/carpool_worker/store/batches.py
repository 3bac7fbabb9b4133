"""Batches in SQL: whoever moves one does it with a guarded UPDATE and goes on only if it moved."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa
import uuid_utils

from carpool_worker import moves
from carpool_worker.database import is_postgres
from carpool_worker.models import Batch
from carpool_worker.states import OUT_BATCH_STATES, QUEUED_BATCH_STATES, SEAL, BatchState, Transition
from carpool_worker.store import batch_lines

batches = Batch.__table__  # type: ignore[attr-defined]

FRESH = {
    "request_count": 0,
    "body_bytes": 0,
    "submissions": 0,
    "due_at": 0,
    "strangers": "[]",
    "succeeded": 0,
    "errored": 0,
    "canceled": 0,
    "expired": 0,
}


IN_TURN = (batches.c.priority.desc(), batches.c.opened_at, batches.c.id)
"""The order in which batches go where there is no room for all."""

WARMING_STATES = (BatchState.SEALED, *QUEUED_BATCH_STATES)
"""A warm-up that is in one of these has not ended."""

QUEUE_LOCK = 0x63617270
"""PostgreSQL's advisory lock on how much is queued at Anthropic."""


class Ready(NamedTuple):
    """A sealed batch whose back-off is over."""

    id: str
    lane: str
    request_count: int
    submit_by: int | None = None  # milliseconds since the epoch; no window holds it then


def new_id() -> str:
    """Return an id for a batch: ids sort by the time they were made."""
    return uuid_utils.uuid7().hex


def get(connection: sa.Connection, batch_id: str) -> Batch | None:
    """Return the batch, or None."""
    row = connection.execute(sa.select(batches).where(batches.c.id == batch_id)).one_or_none()
    return None if row is None else _batch(row)


def marked(connection: sa.Connection, batch_id: str) -> frozenset[str]:
    """Return the prefixes of a batch that are marked for the cache."""
    return frozenset(
        json.loads(connection.scalar(sa.select(batches.c.marked).where(batches.c.id == batch_id)) or "[]")
    )


def undecided(connection: sa.Connection, batch_id: str, submission: int) -> Batch | None:
    """Return the batch, locked until the transaction ends; None unless this post of it waits for its outcome."""
    undecided = sa.select(batches).where(
        batches.c.id == batch_id,
        batches.c.state == BatchState.SUBMITTING,
        batches.c.submissions == submission,
    )
    row = connection.execute(undecided.with_for_update()).one_or_none()
    return None if row is None else _batch(row)


def open_in(connection: sa.Connection, lane: str, model: str, headers: Mapping[str, str], now: int) -> Batch:
    """Return the lane's open batch, locked until the transaction ends; one is opened where there is none."""
    current = sa.select(batches).where(batches.c.lane == lane, batches.c.state == BatchState.OPEN)
    while (row := connection.execute(current.with_for_update()).one_or_none()) is None:
        insert, batch_id = _insert_unless_open(connection), new_id()
        opened = connection.execute(
            insert,
            FRESH
            | {
                "id": batch_id,
                "lane": lane,
                "model": model,
                "headers": json.dumps(dict(headers)),
                "state": BatchState.OPEN,
                "opened_at": now,
            },
        )
        if opened.rowcount:
            moves.note(connection, "batch open", batch=batch_id, model=model, lane=lane)
    return _batch(row)


def insert_sealed(
    connection: sa.Connection, parent: Batch, request_count: int, body_bytes: int, now: int
) -> str:
    """Insert a sealed batch that takes over some of another's requests; return its id."""
    batch_id = new_id()
    row = {
        "id": batch_id,
        "lane": parent.lane,
        "model": parent.model,
        "headers": parent.headers,
        "state": BatchState.SEALED,
        "parent_id": parent.id,
        "request_count": request_count,
        "body_bytes": body_bytes,
        "opened_at": parent.opened_at,
        "priority": parent.priority,
        "marked": parent.marked,
        "submit_by": parent.submit_by,
        "sealed_at": now,
    }
    connection.execute(sa.insert(batches), FRESH | row)
    of: dict[str, Any] = {"parent": parent.id, "model": parent.model, "lane": parent.lane}
    moves.note(connection, "batch sealed", batch=batch_id, requests=request_count, **of)
    return batch_id


def grow(
    connection: sa.Connection,
    batch_id: str,
    requests: int,
    body_bytes: int,
    priority: int = 0,
    submit_by: int | None = None,
) -> None:
    """Count requests that were put into an open batch; `priority` is their highest, `submit_by` their earliest."""
    row = batches.c
    empty = row.request_count == 0
    higher = sa.or_(empty, row.priority < priority)
    sooner = empty if submit_by is None else sa.or_(empty, _is_later(submit_by))
    connection.execute(
        sa.update(batches)
        .where(row.id == batch_id)
        .values(
            request_count=row.request_count + requests,
            body_bytes=row.body_bytes + body_bytes,
            priority=sa.case((higher, priority), else_=row.priority),
            submit_by=sa.case((sooner, submit_by), else_=row.submit_by),
        )
    )


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
    moving = guarded.values(state=transition.target, **values).returning(*batch_lines.COLUMNS)
    moved = connection.execute(moving).one_or_none()
    if moved:
        batch_lines.note(connection, transition, moved, values.get("last_error"))
    return moved is not None


def hold(connection: sa.Connection, batch_id: str, submission: int, **values: Any) -> bool:
    """Set columns of a sealed batch that was tried so often; return False where it went on meanwhile."""
    held = sa.update(batches).where(
        batches.c.id == batch_id, batches.c.state == BatchState.SEALED, batches.c.submissions == submission
    )
    return connection.execute(held.values(**values)).rowcount == 1


def begin_search(connection: sa.Connection, batch: Batch, at: int) -> None:
    """Note when a batch in doubt was first looked for in vain, unless its doubt is another since it was read."""
    row = batches.c
    same = sa.and_(
        row.submissions == batch.submissions, row.in_doubt_at.is_not_distinct_from(batch.in_doubt_at)
    )
    began = sa.update(batches).where(row.id == batch.id, row.state == BatchState.SUBMITTING, same)
    connection.execute(began.where(row.sought_at.is_(None)).values(sought_at=at))


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


def seal_opened_before(
    connection: sa.Connection, opened_before: int, now: int, lane: str | None = None, model: str | None = None
) -> list[str]:
    """Seal every open batch (of that lane, of that model) whose first request came before then; return their ids."""
    due = sa.select(batches.c.id).where(
        batches.c.state == BatchState.OPEN, batches.c.opened_at <= opened_before, batches.c.request_count > 0
    )
    if lane is not None:
        due = due.where(batches.c.lane == lane)
    if model is not None:
        due = due.where(batches.c.model == model)
    return _seal(connection, due, now)


def seal_to_submit_by(connection: sa.Connection, submit_by: int, now: int) -> list[str]:
    """Seal every open batch that is to be on its way by then; return their ids."""
    due = sa.select(batches.c.id).where(
        batches.c.state == BatchState.OPEN, batches.c.submit_by <= submit_by, batches.c.request_count > 0
    )
    return _seal(connection, due, now)


def _seal(connection: sa.Connection, due: sa.Select[Any], now: int) -> list[str]:
    ids = connection.scalars(due).all()
    return [batch_id for batch_id in ids if move(connection, SEAL, batch_id, sealed_at=now)]


def hasten(
    connection: sa.Connection, submit_by: int, lane: str | None = None, model: str | None = None
) -> int:
    """Let every sealed batch (of that lane, of that model) be on its way by then; return how many were to go later."""
    row = batches.c
    later = sa.update(batches).where(row.state == BatchState.SEALED, _is_later(submit_by))
    hastened = later.values(submit_by=submit_by)
    if lane is not None:
        hastened = hastened.where(row.lane == lane)
    if model is not None:
        hastened = hastened.where(row.model == model)
    return connection.execute(hastened).rowcount


def ready(connection: sa.Connection, now: int) -> list[Ready]:
    """Return the sealed batches whose back-off is over: those of the highest priority first, of these the oldest.

    Parts of a split one keep its age. One that waits for its warm-up is left out.
    """
    due = sa.select(*(batches.c[name] for name in Ready._fields)).where(
        batches.c.state == BatchState.SEALED, batches.c.due_at <= now, sa.not_(_awaits_warm_up(now))
    )
    return [Ready._make(row) for row in connection.execute(due.order_by(*IN_TURN))]


def warming(connection: sa.Connection, now: int) -> set[str]:
    """Return the ids of the sealed batches that wait for their warm-up to end."""
    waiting = sa.select(batches.c.id).where(batches.c.state == BatchState.SEALED, _awaits_warm_up(now))
    return set(connection.scalars(waiting))


def queued(connection: sa.Connection) -> int:
    """Return how many requests Anthropic has, or may have, in batches that have not ended."""
    out = sa.select(sa.func.sum(batches.c.request_count)).where(batches.c.state.in_(QUEUED_BATCH_STATES))
    return int(connection.scalar(out) or 0)


def lock_queue(connection: sa.Connection) -> None:
    """Let nobody else decide on room in the queue until this transaction ends; SQLite has one writer anyway."""
    if is_postgres(connection):
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(QUEUE_LOCK)))


def due_to_collect(connection: sa.Connection, now: int) -> list[str]:
    """Return the ended batches whose results wait to be collected, oldest first."""
    due = sa.select(batches.c.id).where(batches.c.state == BatchState.ENDED, batches.c.due_at <= now)
    return list(connection.scalars(due.order_by(batches.c.opened_at)))


def in_states(connection: sa.Connection, states: Iterable[BatchState]) -> list[Batch]:
    """Return the batches that are in one of `states`, oldest first."""
    found = sa.select(batches).where(batches.c.state.in_(list(states))).order_by(batches.c.id)
    return [_batch(row) for row in connection.execute(found)]


def out(connection: sa.Connection) -> list[Batch]:
    """Return the batches that Anthropic has and has not ended."""
    return in_states(connection, OUT_BATCH_STATES)


def known(connection: sa.Connection, claude_ids: Sequence[str]) -> set[str]:
    """Return those of Anthropic's ids that belong to a batch of ours."""
    return set(connection.scalars(sa.select(batches.c.claude_id).where(batches.c.claude_id.in_(claude_ids))))


def any_adopted(connection: sa.Connection, claude_ids: Sequence[str]) -> bool:
    """Tell whether one of Anthropic's ids was adopted by a batch of ours, and its results have not confirmed it yet."""
    adopted = sa.select(batches.c.id).where(
        batches.c.claude_id.in_(claude_ids),
        batches.c.in_doubt_at.is_not(None),
        batches.c.finished_at.is_(None),
    )
    return connection.scalar(adopted.limit(1)) is not None


def _awaits_warm_up(now: int) -> sa.ColumnElement[bool]:
    row, warm_up = batches.c, batches.alias("warm_up")
    unended = sa.exists().where(warm_up.c.id == row.warm_up_id, warm_up.c.state.in_(WARMING_STATES))
    return sa.and_(sa.func.coalesce(row.warm_until, 0) > now, _is_later(now), unended)


def _is_later(submit_by: int) -> sa.ColumnElement[bool]:
    return sa.or_(batches.c.submit_by.is_(None), batches.c.submit_by > submit_by)


def _insert_unless_open(connection: sa.Connection) -> Any:
    # The partial unique index keeps one open batch a lane; another aggregator may have opened it just now.
    if is_postgres(connection):
        from sqlalchemy.dialects.postgresql import insert as postgres_insert

        return postgres_insert(batches).on_conflict_do_nothing()
    from sqlalchemy.dialects.sqlite import insert as sqlite_insert

    return sqlite_insert(batches).on_conflict_do_nothing()


def _batch(row: sa.Row[Any]) -> Batch:
    return Batch(**row._mapping)
