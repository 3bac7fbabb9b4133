"""SQL that opens, fills and seals batches; a batch that takes over requests of another begins sealed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
import uuid_utils

from carpool_worker import transition_log
from carpool_worker.models import Batch
from carpool_worker.models.indexes import OPEN
from carpool_worker.models.tables import batches
from carpool_worker.policies.limits import item_bytes
from carpool_worker.states import BatchState
from carpool_worker.store.batches.rows import as_batch, may_end_later, may_go_later, within
from carpool_worker.store.batches.transitions import seal
from carpool_worker.store.requests import rows as requests
from carpool_worker.store.upserts import insert_missing
from carpool_worker.units import Milliseconds

FRESH = {
    "request_count": 0,
    "body_bytes": 0,
    "submissions": 0,
    "due_at": 0,
    "disowned_ids": "[]",
    "succeeded": 0,
    "errored": 0,
    "canceled": 0,
    "expired": 0,
}


def open_in(
    connection: sa.Connection,
    lane: str,
    model: str,
    headers: Mapping[str, str],
    now: Milliseconds,
    *,
    shard: int = 0,
    account: str | None = None,
) -> Batch:
    """Return the open batch of a lane and shard, locked until the transaction ends; open one if there is none."""
    current = sa.select(batches).where(batches.c.lane == lane, batches.c.shard == shard, OPEN)
    while (row := connection.execute(current.with_for_update()).one_or_none()) is None:
        batch_id = new_id()
        opened = FRESH | {
            "id": batch_id,
            "lane": lane,
            "account": account,
            "shard": shard,
            "model": model,
            "headers": json.dumps(dict(headers)),
            "state": BatchState.OPEN,
            "opened_at": now,
        }
        # The partial unique index allows one open batch a lane and shard; another aggregator may have just opened it.
        if insert_missing(connection, batches, [opened]):
            transition_log.record(connection, "batch open", batch=batch_id, model=model, lane=lane)
    return as_batch(row)


def add_requests(
    connection: sa.Connection,
    batch_id: str,
    count: int,
    body_bytes: int,
    priority: int = 0,
    submit_by: int | None = None,
    deadline: int | None = None,
) -> None:
    """Count requests that were put into an open batch: `priority` is the highest of them, both times the earliest."""
    row = batches.c
    empty = row.request_count == 0
    higher = sa.or_(empty, row.priority < priority)
    sooner = empty if submit_by is None else sa.or_(empty, may_go_later(submit_by))
    due_sooner = empty if deadline is None else sa.or_(empty, may_end_later(deadline))
    connection.execute(
        sa.update(batches)
        .where(row.id == batch_id)
        .values(
            request_count=row.request_count + count,
            body_bytes=row.body_bytes + body_bytes,
            priority=sa.case((higher, priority), else_=row.priority),
            submit_by=sa.case((sooner, submit_by), else_=row.submit_by),
            deadline=sa.case((due_sooner, deadline), else_=row.deadline),
        )
    )


def remove_requests(connection: sa.Connection, batch_id: str, count: int, body_bytes: int) -> int:
    """Subtract requests that left a locked batch; return how many it still has."""
    row = batches.c
    counted = {"request_count": row.request_count - count, "body_bytes": row.body_bytes - body_bytes}
    left = sa.update(batches).where(row.id == batch_id).values(counted).returning(row.request_count)
    return int(connection.execute(left).scalar_one())


def seal_opened_before(
    connection: sa.Connection,
    opened_before: int,
    now: Milliseconds,
    lane: str | None = None,
    model: str | None = None,
    *,
    wait: bool = True,
) -> list[str]:
    """Seal every open batch (of that lane, of that model) whose first request came before then; return their ids.

    Without `wait`, those are left out that are being filled: whoever fills one looks itself when it is done.
    """
    due = sa.select(batches.c.id).where(
        OPEN, batches.c.opened_at <= opened_before, batches.c.request_count > 0
    )
    return _seal(connection, due.where(*within(lane, model)), now, wait)


def seal_to_submit_by(connection: sa.Connection, submit_by: int, now: Milliseconds) -> list[str]:
    """Seal every open batch that should be submitted by then, unless it is being filled; return their ids."""
    due = sa.select(batches.c.id).where(OPEN, batches.c.submit_by <= submit_by, batches.c.request_count > 0)
    return _seal(connection, due, now, wait=False)


def open_since(connection: sa.Connection) -> tuple[int | None, int | None]:
    """Return when the oldest open batch was opened and the earliest `submit_by` of any; in ms since the epoch."""
    row = batches.c
    oldest = sa.select(sa.func.min(row.opened_at), sa.func.min(row.submit_by)).where(
        OPEN, row.request_count > 0
    )
    opened_at, submit_by = connection.execute(oldest).one()
    return opened_at, submit_by


def _seal(connection: sa.Connection, due: sa.Select[Any], now: Milliseconds, wait: bool) -> list[str]:
    ids = connection.scalars(due if wait else due.with_for_update(skip_locked=True)).all()
    return [batch_id for batch_id in ids if seal(connection, batch_id, now)]


def insert_sealed(
    connection: sa.Connection,
    parent: Batch,
    request_count: int,
    body_bytes: int,
    now: Milliseconds,
    **own: Any,
) -> str:
    """Insert a sealed batch for some of another batch's requests; return its id.

    It inherits what has no value of its `own`.
    """
    batch_id = new_id()
    row = {
        "id": batch_id,
        "lane": parent.lane,
        "account": parent.account,
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
        "deadline": parent.deadline,
        "sealed_at": now,
    }
    connection.execute(sa.insert(batches), FRESH | row | own)
    of: dict[str, Any] = {"parent": parent.id, "model": parent.model, "lane": parent.lane}
    transition_log.record(connection, "batch sealed", batch=batch_id, requests=request_count, **of)
    return batch_id


def new_id() -> str:
    """Return an id for a batch; ids sort by the time of their creation."""
    return uuid_utils.uuid7().hex


def transfer(
    connection: sa.Connection, batch: Batch, some: Sequence[tuple[str, int]], now: Milliseconds
) -> tuple[str, int]:
    """Move locked requests (id, bytes of their params) of a batch into a new, sealed one: their successor.

    Returns its id, and how many bytes they take of a body.
    """
    size = sum(item_bytes(params_bytes) for _, params_bytes in some)
    successor = insert_sealed(connection, batch, len(some), size, now)
    requests.transfer(connection, [request_id for request_id, _ in some], successor)
    return successor, size
