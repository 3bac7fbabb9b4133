"""Requests as they are taken in, in SQL: batched at once, or held until there is money for them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from carpool.contract import Envelope
from carpool_worker import transition_log
from carpool_worker.prompt_cache.prefixes import prefix_of
from carpool_worker.states import RequestState
from carpool_worker.store.bulk import insert_rows
from carpool_worker.store.requests.rows import BATCHED, BODY, UNBATCHED

HELD_STATE = RequestState.RETRYABLE.value

COLUMNS = {
    "id": "text",
    "client": "text",
    "model": "text",
    "lane": "text",
    "batch_id": "text",
    "state": "text",
    "attempt": "integer",
    "headers": "text",
    "callback": "text",
    "metadata": "text",
    "idempotency_key": "text",
    "params_bytes": "integer",
    "enqueued_at": "bigint",
    "batched_at": "bigint",
    "priority": "integer",
    "submit_by": "bigint",
    "trace": "text",
    "prefix": "text",
}
RESERVED = {"estimate": "bigint"}
HELD = {"estimate": "bigint", "held_at": "bigint", "retry_at": "bigint"}
"""Columns that only requests of clients with a budget have."""

NEVER = 253_402_300_799_999
"""The time (milliseconds: the end of the year 9999) for which a held request waits: whoever looks for requests that
wait finds it by the index of these times, and the stager never does."""

NO_PREFIXES: Mapping[str, str | None] = {}


def insert(
    connection: sa.Connection,
    lane: str,
    batch_id: str,
    envelopes: Sequence[Envelope],
    now: int,
    estimates: Mapping[str, int] | None = None,
    prefixes: Mapping[str, str | None] = NO_PREFIXES,
) -> None:
    """Insert requests of a lane, batched, with their params; `estimates` (picodollars) of some of them are reserved.

    `prefixes` has what they begin with, by id.

    Raises:
        sqlalchemy.exc.IntegrityError: another aggregator has just inserted one of them.
    """
    columns = COLUMNS
    rows = [_row(envelope, prefixes.get(envelope.id), lane, batch_id, now) for envelope in envelopes]
    if estimates:
        columns, rows = COLUMNS | RESERVED, [(*row, estimates.get(row[0])) for row in rows]
    insert_rows(connection, "requests", columns, rows)
    _insert_params(connection, envelopes)
    transition_log.record_many(connection, f"requests {BATCHED}", len(rows), batch=batch_id, lane=lane)


def insert_held(
    connection: sa.Connection,
    envelopes: Sequence[Envelope],
    lanes: Mapping[str, str],
    estimates: Mapping[str, int],
    now: int,
) -> None:
    """Insert requests that wait for their client's budget, in no batch yet; lanes and estimates are by their ids.

    Raises:
        sqlalchemy.exc.IntegrityError: another aggregator has just inserted one of them.
    """
    rows = [
        (
            *_row(
                envelope,
                prefix_of(envelope.params),
                lanes[envelope.id],
                UNBATCHED,
                now,
                HELD_STATE,
                attempt=0,
            ),
            estimates[envelope.id],
            now,
            NEVER,
        )
        for envelope in envelopes
    ]
    insert_rows(connection, "requests", COLUMNS | HELD, rows)
    transition_log.record_many(connection, f"requests {HELD_STATE}", len(rows), why="budget")
    _insert_params(connection, envelopes)


def _insert_params(connection: sa.Connection, envelopes: Sequence[Envelope]) -> None:
    insert_rows(
        connection,
        "params",
        BODY,
        [(envelope.id, envelope.params) for envelope in envelopes],
    )


def _row(
    envelope: Envelope,
    prefix: str | None,
    lane: str,
    batch_id: str,
    now: int,
    state: str = BATCHED,
    attempt: int = 1,
) -> tuple[Any, ...]:
    return (
        envelope.id,
        envelope.client,
        envelope.model,
        lane,
        batch_id,
        state,
        attempt,
        json.dumps(envelope.headers) if envelope.headers else "{}",
        envelope.callback.decode() if envelope.callback else None,
        envelope.metadata.decode() if envelope.metadata else None,
        envelope.idempotency_key,
        len(envelope.params),
        envelope.enqueued_at,
        now,
        envelope.priority,
        envelope.submit_by,
        envelope.trace,
        prefix,
    )
