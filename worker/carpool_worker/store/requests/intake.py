"""SQL that inserts new requests: into a batch, or held until their client's budget has room."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from carpool.contract import Envelope
from carpool_worker import transition_log
from carpool_worker.states import RequestState
from carpool_worker.store.bulk import insert_rows
from carpool_worker.store.requests.rows import BATCHED, BODY, UNBATCHED
from carpool_worker.units import Milliseconds

HELD_STATE = RequestState.RETRYABLE.value

COLUMNS = {
    "id": "text",
    "client": "text",
    "model": "text",
    "headers": "text",
    "callback": "text",
    "metadata": "text",
    "idempotency_key": "text",
    "params_bytes": "integer",
    "enqueued_at": "bigint",
    "priority": "integer",
    "submit_by": "bigint",
    "trace": "text",
    # Those above come from the envelope; those below are decided here.
    "lane": "text",
    "batch_id": "text",
    "state": "text",
    "attempt": "integer",
    "batched_at": "bigint",
    "prefix": "text",
}
RESERVED = {"estimate": "bigint"}
HELD = {"estimate": "bigint", "held_at": "bigint", "retry_at": "bigint"}
"""Columns that only requests of clients with a budget have."""

NEVER = Milliseconds(253_402_300_799_999)
"""The end of the year 9999, as the `retry_at` of a held request: the index on that column then covers held requests,
and the stager never finds them due."""

Prefixes = Mapping[str, str | None]
"""The digest of each request's shared prompt, by the request's id."""

NO_PREFIXES: Prefixes = {}


def insert(
    connection: sa.Connection,
    lane: str,
    batch_id: str,
    envelopes: Sequence[Envelope],
    now: int,
    estimates: Mapping[str, int] | None = None,
    prefixes: Prefixes = NO_PREFIXES,
) -> None:
    """Insert requests of a lane into a batch, with their params.

    `estimates` (picodollars, by id) are reserved from the budgets of clients that have one.

    Raises:
        sqlalchemy.exc.IntegrityError: another aggregator has just inserted one of them.
    """
    columns = COLUMNS
    rows = [(*_facts(one), lane, batch_id, BATCHED, 1, now, prefixes.get(one.id)) for one in envelopes]
    if estimates:
        columns = COLUMNS | RESERVED
        rows = [(*row, estimates.get(one.id)) for one, row in zip(envelopes, rows, strict=True)]
    insert_rows(connection, "requests", columns, rows)
    _insert_params(connection, envelopes)
    transition_log.record_many(connection, f"requests {BATCHED}", len(rows), batch=batch_id, lane=lane)


def insert_held(
    connection: sa.Connection,
    envelopes: Sequence[Envelope],
    lanes: Mapping[str, str],
    prefixes: Prefixes,
    estimates: Mapping[str, int],
    now: int,
) -> None:
    """Insert held requests, which are in no batch yet; lanes, prefixes and estimates are given by id.

    Raises:
        sqlalchemy.exc.IntegrityError: another aggregator has just inserted one of them.
    """
    fixed = (UNBATCHED, HELD_STATE, 0, now)
    rows = [
        (*_facts(one), lanes[one.id], *fixed, prefixes[one.id], estimates[one.id], now, NEVER)
        for one in envelopes
    ]
    insert_rows(connection, "requests", COLUMNS | HELD, rows)
    transition_log.record_many(connection, f"requests {HELD_STATE}", len(rows), why="budget")
    _insert_params(connection, envelopes)


def _insert_params(connection: sa.Connection, envelopes: Sequence[Envelope]) -> None:
    insert_rows(connection, "params", BODY, [(one.id, one.params) for one in envelopes])


def _facts(envelope: Envelope) -> tuple[Any, ...]:
    return (
        envelope.id,
        envelope.client,
        envelope.model,
        json.dumps(envelope.headers) if envelope.headers else "{}",
        envelope.callback.decode() if envelope.callback else None,
        envelope.metadata.decode() if envelope.metadata else None,
        envelope.idempotency_key,
        len(envelope.params),
        envelope.enqueued_at,
        envelope.priority,
        envelope.submit_by,
        envelope.trace,
    )
