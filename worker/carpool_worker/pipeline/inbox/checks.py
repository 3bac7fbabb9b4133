"""Checks envelopes and cancel commands as the inbox's entries are read.

Carpool's producers never send what is refused here. It would make the database refuse a whole chunk, or the API a
whole batch, or keep an answer from its callback.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

from carpool import callbacks
from carpool.contract import (
    BETA_HEADER,
    ENTRY_FIELD,
    MAX_PARAMS_BYTES,
    MAX_PRIORITY,
    REQUEST_ID,
    USER_PROFILE_HEADER,
    WORKSPACE_HEADER,
    Cancel,
    Envelope,
)
from carpool.envelopes import MAX_BETAS_LENGTH, check_client
from carpool.params import is_model
from carpool.tracing import TRACEPARENT

LATEST = 253_402_300_799_999
"""Milliseconds: the end of the year 9999, the last one that RFC 3339 can express."""

HEADERS = frozenset({BETA_HEADER, USER_PROFILE_HEADER, WORKSPACE_HEADER})
HEADER_VALUE = re.compile(f"[!-~]{{1,{MAX_BETAS_LENGTH}}}")

UNREADABLE = (KeyError, ValueError, RecursionError, MemoryError)
"""Raised by reading an entry: msgspec's errors are ValueErrors; a few bytes can claim to be a list of billions."""

ESCAPED_NUL = b"\\u0000"


def packed_envelopes(fields: Mapping[bytes, bytes]) -> bytes:
    """Return the field of an inbox entry that holds its envelopes; raise ValueError if it has none."""
    if ENTRY_FIELD not in fields:
        raise ValueError("it has no field that this version knows")
    return fields[ENTRY_FIELD]


def check(envelopes: Iterable[Envelope]) -> None:
    """Raise ValueError, naming the field and the rule, for the first envelope that would do harm."""
    for envelope in envelopes:
        if not REQUEST_ID.fullmatch(envelope.id):
            raise ValueError("id: must be 32 hexadecimal digits")
        check_client(envelope.client)
        if not is_model(envelope.model):
            raise ValueError("model: must be the name of a model, without spaces")
        if "\0" in (envelope.idempotency_key or ""):
            raise ValueError("idempotency_key: must not contain a NUL character")
        if not 0 <= envelope.enqueued_at <= LATEST:
            raise ValueError("enqueued_at: must be milliseconds since the epoch")
        if abs(envelope.priority) > MAX_PRIORITY:
            raise ValueError(f"priority: must be from -{MAX_PRIORITY} to {MAX_PRIORITY}")
        if not 0 <= (envelope.submit_by or 0) <= LATEST:
            raise ValueError("submit_by: must be milliseconds since the epoch")
        if envelope.trace is not None and not TRACEPARENT.fullmatch(envelope.trace):
            raise ValueError("trace: must be a W3C traceparent")
        _check_params(envelope.params)
        _check_headers(envelope.headers)
        if envelope.callback:
            _check_callback(envelope.callback)
        if envelope.metadata:
            _check_json("metadata", envelope.metadata)  # becomes part of the answer as it is


def check_cancel(command: Cancel) -> None:
    """Raise ValueError, naming the field and the rule, for a cancel command that would do harm."""
    if not all(map(REQUEST_ID.fullmatch, command.ids or ())):
        raise ValueError("ids: each must be 32 hexadecimal digits")
    check_client(command.client)
    if not 0 <= command.at <= LATEST:
        raise ValueError("at: must be milliseconds since the epoch")


def _check_params(params: bytes) -> None:
    # It becomes part of a batch's body as it is, where it could end its request and begin another.
    _check_json("params", params)
    if not params.startswith(b"{") or len(params) > MAX_PARAMS_BYTES:
        raise ValueError(f"params: must be a JSON object of {MAX_PARAMS_BYTES:,} bytes at most")


def _check_headers(headers: Mapping[str, str]) -> None:
    if not HEADERS.issuperset(headers) or not all(map(HEADER_VALUE.fullmatch, headers.values())):
        raise ValueError(f"headers: must be {', '.join(sorted(HEADERS))}, in visible ASCII")


def _check_callback(callback: bytes) -> None:
    if ESCAPED_NUL in callback:
        raise ValueError("callback: must not contain a NUL character")
    _check_json("callback", callback)
    callbacks.encode(callbacks.decode(callback), allow_http=True)


def _check_json(field: str, text: bytes) -> None:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except RecursionError:
        raise ValueError(f"{field}: is nested too deeply") from None
    if not text.isascii():
        text.decode()  # msgspec does not check that strings are UTF-8
