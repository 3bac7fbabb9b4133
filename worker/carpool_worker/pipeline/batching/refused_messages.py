"""Messages of Celery's that are refused: each ends at once as a discarded request, whose callback learns why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from carpool import callbacks
from carpool.contract import MAX_PARAMS_BYTES, Envelope, mint_id
from carpool.encoding import encode
from carpool.envelopes import MAX_METADATA_BYTES, check_client
from carpool.exceptions import InvalidRequest
from carpool.params import is_model
from carpool.segments import pack
from carpool_worker.database import now, write
from carpool_worker.states import REFUSE
from carpool_worker.store.requests import endings, intake, segments
from carpool_worker.store.requests import rows as requests
from carpool_worker.store.requests.endings import Ending
from carpool_worker.store.requests.reservations import HeldRequest

INVALID = "invalid_request_error"
"""The error type that the callback of a refused message gets, as the API words it."""

UNREADABLE = b"{}"
UNKNOWN_MODEL = "unknown"
"""Stored in place of params, or of a model, that can't be."""


def envelope_of(
    task_id: str, client: str, params: Any, callback: Any, metadata: Any, allow_http: bool
) -> Envelope:
    """Return what can be kept of a refused message: its id is that of the task, whatever key it had.

    A message that is corrected may have the same key, and is another request.

    Raises:
        InvalidSetting: the client is none, so nobody's request can be made of it.
    """
    check_client(client)
    model = params.get("model") if isinstance(params, Mapping) else None
    return Envelope(
        id=mint_id(client, f"refused celery {task_id}"),
        client=client,
        model=model if isinstance(model, str) and is_model(model) else UNKNOWN_MODEL,
        params=_encoded("params", params, MAX_PARAMS_BYTES) if isinstance(params, Mapping) else UNREADABLE,
        headers={},
        callback=_callback(callback, allow_http),
        metadata=None if metadata is None else _encoded("metadata", metadata, MAX_METADATA_BYTES, None),
        idempotency_key=None,
        enqueued_at=now(),
    )


def refuse(engine: sa.Engine, envelope: Envelope, why: str) -> bool:
    """Store the request as discarded, with its delivery; return False if it is there already.

    The task `carpool.enqueue` calls it before it acknowledges the message. One transaction: a crash leaves all or
    nothing, and the message comes again.

    Raises:
        sqlalchemy.exc.OperationalError: the database is away.
    """
    with write(engine) as connection:
        if requests.known(connection, [envelope.id]):
            return False
        at = now()
        places = segments.insert(connection, [([envelope], pack([envelope.params]))])
        none: Mapping[str, str | None] = {envelope.id: None}
        intake.insert_held(connection, [envelope], places, none, {}, at, why="refused")
        callback = None if envelope.callback is None else envelope.callback.decode()
        held = HeldRequest(envelope.id, envelope.client, 0, callback)
        endings.finish(connection, [Ending.failed(held, INVALID, why, REFUSE)], at)
    return True


def _callback(callback: Any, allow_http: bool) -> bytes | None:
    try:
        return None if callback is None else callbacks.encode(callback, allow_http=allow_http)
    except InvalidRequest:
        return None


def _encoded(field: str, value: Any, limit: int, otherwise: Any = UNREADABLE) -> Any:
    try:
        return encode(field, value, limit)
    except (InvalidRequest, msgspec.MsgspecError):
        return otherwise
