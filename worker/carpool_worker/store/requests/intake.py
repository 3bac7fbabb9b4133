"""SQL that inserts new requests: into a batch, or held until their client's budget has room."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from carpool.contract import Envelope
from carpool_worker import transition_log
from carpool_worker.models.columns import digest_number
from carpool_worker.states import RequestState
from carpool_worker.store.bulk import insert_rows
from carpool_worker.store.requests.rows import BATCHED, UNBATCHED
from carpool_worker.store.requests.segments import Place
from carpool_worker.units import Milliseconds

HELD_STATE = RequestState.RETRYABLE.value

COLUMNS = {
    "id": "bytea",
    "client": "text",
    "metadata": "text",
    "idempotency_key": "text",
    "params_digest": "bytea",
    "params_bytes": "integer",
    "enqueued_at": "bigint",
    "priority": "smallint",
    "submit_by": "bigint",
    "deadline": "bigint",
    "trace": "text",
    "client_batch": "text",
    "custom_id": "text",
    # Those above come from the envelope; those below are decided here.
    "segment_id": "bigint",
    "position": "smallint",
    "prefix": "bigint",
    "batch_id": "bytea",
    "state": "text",
    "attempt": "smallint",
}
TAGS = {"client": "text", "tag": "text", "request_id": "bytea"}
RESERVED = {"estimate": "bigint"}
HELD = {"batched_at": "bigint", "estimate": "bigint", "held_at": "bigint", "retry_at": "bigint"}
"""Columns that only requests of clients with a budget have."""

DIGEST_BYTES = 16

NEVER = Milliseconds(253_402_300_799_999)
"""The end of the year 9999, as the `retry_at` of a held request: the index on that column then covers held requests,
and the stager never finds them due."""

Prefixes = Mapping[str, str | None]
"""The digest of each request's shared prompt, by the request's id."""

NO_PREFIXES: Prefixes = {}


def insert(
    connection: sa.Connection,
    batch_id: str,
    envelopes: Sequence[Envelope],
    places: Mapping[str, Place],
    estimates: Mapping[str, int] | None = None,
    prefixes: Prefixes = NO_PREFIXES,
) -> None:
    """Insert requests, whose params are at `places`, into a batch.

    `estimates` (picodollars, by id) are reserved from the budgets of clients that have one.

    Raises:
        sqlalchemy.exc.IntegrityError: another aggregator has just inserted one of them.
    """
    columns, fixed = COLUMNS, (bytes.fromhex(batch_id), BATCHED, 1)
    rows = [(*_facts(one, places[one.id], prefixes), *fixed) for one in envelopes]
    if estimates:
        columns = COLUMNS | RESERVED
        rows = [(*row, estimates.get(one.id)) for one, row in zip(envelopes, rows, strict=True)]
    insert_rows(connection, "requests", columns, rows)
    _insert_tags(connection, envelopes)
    transition_log.record_many(connection, f"requests {BATCHED}", len(rows), batch=batch_id)


def insert_held(
    connection: sa.Connection,
    envelopes: Sequence[Envelope],
    places: Mapping[str, Place],
    prefixes: Prefixes,
    estimates: Mapping[str, int],
    now: int,
) -> None:
    """Insert held requests, which are in no batch yet; places, prefixes and estimates are given by id.

    Raises:
        sqlalchemy.exc.IntegrityError: another aggregator has just inserted one of them.
    """
    fixed = (bytes.fromhex(UNBATCHED), HELD_STATE, 0, now)
    rows = [
        (*_facts(one, places[one.id], prefixes), *fixed, estimates[one.id], now, NEVER) for one in envelopes
    ]
    insert_rows(connection, "requests", COLUMNS | HELD, rows)
    _insert_tags(connection, envelopes)
    transition_log.record_many(connection, f"requests {HELD_STATE}", len(rows), why="budget")


def digest(params: bytes) -> bytes:
    """Return the digest by which params are compared when an idempotency key comes again."""
    return hashlib.sha256(params).digest()[:DIGEST_BYTES]


def _insert_tags(connection: sa.Connection, envelopes: Sequence[Envelope]) -> None:
    rows = [(one.client, tag, bytes.fromhex(one.id)) for one in envelopes for tag in dict.fromkeys(one.tags)]
    insert_rows(connection, "tags", TAGS, rows)


def _facts(envelope: Envelope, place: Place, prefixes: Prefixes) -> tuple[Any, ...]:
    prefix = prefixes.get(envelope.id)
    return (
        bytes.fromhex(envelope.id),
        envelope.client,
        envelope.metadata.decode() if envelope.metadata else None,
        envelope.idempotency_key,
        None if envelope.idempotency_key is None else digest(envelope.params),
        len(envelope.params),
        envelope.enqueued_at,
        envelope.priority,
        envelope.submit_by,
        envelope.deadline,
        envelope.trace,
        envelope.client_batch,
        envelope.custom_id,
        place.segment_id,
        place.position,
        None if prefix is None else digest_number(prefix),
    )
