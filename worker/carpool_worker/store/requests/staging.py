"""SQL about requests that are tried again: they leave their batch, and go into another one once they are due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool_worker import transition_log
from carpool_worker.formatting import named
from carpool_worker.models.indexes import RETRYABLE
from carpool_worker.models.tables import requests, segments
from carpool_worker.states import RESCHEDULE, STAGE, RequestState
from carpool_worker.store.bulk import update_rows
from carpool_worker.store.requests.rows import among, in_states


@dataclass(frozen=True, slots=True)
class DueRequest:
    """A request that is due to be tried again."""

    id: str
    client: str
    model: str
    lane: str
    account: str | None
    headers: str
    segment_id: int
    params_bytes: int
    priority: int
    submit_by: int | None
    due_by: int | None


class Rescheduled(NamedTuple):
    """A request that is tried again at `retry_at` (milliseconds since the epoch), with its last outcome and error."""

    id: str
    outcome: str
    retry_at: int
    error: str | None = None  # the type, for the log


def reschedule(connection: sa.Connection, rescheduled: Sequence[Rescheduled], batch_id: str) -> None:
    """Make requests of a batch retryable; the caller must have locked them."""
    rows = [(bytes.fromhex(one.id), one.outcome, one.retry_at) for one in rescheduled]
    columns = {"outcome": "text", "retry_at": "bigint"}
    same = {"state": RESCHEDULE.target.value}
    count = update_rows(connection, "requests", columns, rows, in_states(RESCHEDULE.sources), same)
    event, error = f"requests {RESCHEDULE.target}", named(one.error or one.outcome for one in rescheduled)
    transition_log.record_many(connection, event, count, move=RESCHEDULE.verb, batch=batch_id, error=error)


def due_to_stage(connection: sa.Connection, now: int, limit: int) -> list[DueRequest]:
    """Return up to `limit` requests that are due to be tried again, the longest due first; locks them."""
    shared, own = ("model", "lane", "account", "headers"), requests.c
    names = DueRequest.__slots__[:-1]
    columns: list[Any] = [(segments if name in shared else requests).c[name] for name in names]
    columns.append(sa.case((own.client_batch.is_(None), own.deadline)))
    due = (
        sa.select(*columns)
        .join_from(requests, segments, segments.c.id == requests.c.segment_id)
        .where(requests.c.state == RequestState.RETRYABLE, requests.c.retry_at <= now)
        .order_by(requests.c.retry_at, requests.c.id)
        .limit(limit)
        .with_for_update(of=requests, skip_locked=True)
    )
    return [DueRequest(*row) for row in connection.execute(due)]


def next_due(connection: sa.Connection) -> int | None:
    """Return when the next request is due to be tried again, in milliseconds since the epoch, if any waits."""
    earliest: int | None = connection.scalar(sa.select(sa.func.min(requests.c.retry_at)).where(RETRYABLE))
    return earliest


def stage(connection: sa.Connection, batch_id: str, ids: Sequence[str], now: int) -> None:
    """Put retryable requests into a batch for another attempt."""
    staged = connection.execute(
        sa.update(requests)
        .where(among(connection, ids), requests.c.state.in_(STAGE.sources))
        .values(
            state=STAGE.target,
            batch_id=batch_id,
            attempt=requests.c.attempt + 1,
            outcome=None,
            retry_at=None,
            held_at=None,
            batched_at=now,
        )
    )
    transition_log.record_many(
        connection, f"requests {STAGE.target}", staged.rowcount, move=STAGE.verb, batch=batch_id
    )
