"""SQL that inserts new requests: into a batch, or held until their client's budget has room."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from operator import attrgetter
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
    "params_bytes": "integer",
    "enqueued_at": "bigint",
    "priority": "smallint",
    "segment_id": "bigint",
    "position": "smallint",
    "batch_id": "bytea",
    "state": "text",
    "attempt": "smallint",
}
OPTIONAL = {
    "metadata": "text",
    "idempotency_key": "text",
    "params_digest": "bytea",
    "submit_by": "bigint",
    "deadline": "bigint",
    "deadline_policy": "text",
    "trace": "text",
    "client_batch": "text",
    "custom_id": "text",
    "prefix": "bigint",
    "batched_at": "bigint",
    "estimate": "bigint",
    "held_at": "bigint",
    "retry_at": "bigint",
}
"""Columns that few requests have: they are written only if one of those that are inserted together has them."""

OF_ENVELOPES = (
    "idempotency_key",
    "submit_by",
    "deadline",
    "deadline_policy",
    "trace",
    "client_batch",
    "custom_id",
)
"""Those of them that are written as envelopes have them."""

TAGS = {"client": "text", "tag": "text", "request_id": "bytea"}
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
    fixed = (bytes.fromhex(batch_id), BATCHED, 1)
    optional = _optional(envelopes, prefixes)
    if estimates:
        optional["estimate"] = [estimates.get(one.id) for one in envelopes]
    _insert(connection, envelopes, places, fixed, optional)
    transition_log.record_many(connection, f"requests {BATCHED}", len(envelopes), batch=batch_id)


def insert_held(
    connection: sa.Connection,
    envelopes: Sequence[Envelope],
    places: Mapping[str, Place],
    prefixes: Prefixes,
    estimates: Mapping[str, int],
    now: int,
    why: str = "budget",
) -> None:
    """Insert held requests, which are in no batch yet; places, prefixes and estimates are given by id.

    `why` they are held is for the log.

    Raises:
        sqlalchemy.exc.IntegrityError: another aggregator has just inserted one of them.
    """
    optional = _optional(envelopes, prefixes) | {
        "batched_at": [now] * len(envelopes),
        "estimate": [estimates.get(one.id) for one in envelopes],
        "held_at": [now] * len(envelopes),
        "retry_at": [NEVER] * len(envelopes),
    }
    _insert(connection, envelopes, places, (bytes.fromhex(UNBATCHED), HELD_STATE, 0), optional)
    transition_log.record_many(connection, f"requests {HELD_STATE}", len(envelopes), why=why)


def digest(params: bytes) -> bytes:
    """Return the digest by which params are compared when an idempotency key comes again."""
    return hashlib.sha256(params).digest()[:DIGEST_BYTES]


def _optional(envelopes: Sequence[Envelope], prefixes: Prefixes) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {name: list(map(attrgetter(name), envelopes)) for name in OF_ENVELOPES}
    columns["metadata"] = [one.metadata.decode() if one.metadata else None for one in envelopes]
    columns["params_digest"] = [
        None if one.idempotency_key is None else digest(one.params) for one in envelopes
    ]
    found = map(prefixes.get, [one.id for one in envelopes])
    columns["prefix"] = [None if prefix is None else digest_number(prefix) for prefix in found]
    return columns


def _insert(
    connection: sa.Connection,
    envelopes: Sequence[Envelope],
    places: Mapping[str, Place],
    fixed: tuple[bytes, str, int],
    optional: Mapping[str, Sequence[Any]],
) -> None:
    """Insert rows; `fixed` has their batch, state and attempt."""
    some = {name: values for name, values in optional.items() if any(one is not None for one in values)}
    rows = [
        (*_facts(envelope, places[envelope.id]), *fixed, *values)
        for envelope, *values in zip(envelopes, *some.values(), strict=True)
    ]
    insert_rows(connection, "requests", COLUMNS | {name: OPTIONAL[name] for name in some}, rows)
    tags = [(one.client, tag, bytes.fromhex(one.id)) for one in envelopes for tag in dict.fromkeys(one.tags)]
    insert_rows(connection, "tags", TAGS, tags)


def _facts(envelope: Envelope, place: Place) -> tuple[Any, ...]:
    return (
        bytes.fromhex(envelope.id),
        envelope.client,
        len(envelope.params),
        envelope.enqueued_at,
        envelope.priority,
        place.segment_id,
        place.position,
    )
