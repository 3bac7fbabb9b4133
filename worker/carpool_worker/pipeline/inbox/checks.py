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
    MAX_PARAMS_BYTES,
    MAX_PRIORITY,
    REPLIES,
    REQUEST_ID,
    USER_PROFILE_HEADER,
    WORKSPACE_HEADER,
    Cancel,
    Entry,
    Envelope,
)
from carpool.envelopes import MAX_BETAS_LENGTH, check_client
from carpool.keywords import DEADLINE_POLICIES, checked_tags
from carpool.params import is_model
from carpool.tracing import TRACEPARENT

LATEST = 253_402_300_799_999
"""Milliseconds: the end of the year 9999, the last one that RFC 3339 can express."""

HEADERS = frozenset({BETA_HEADER, USER_PROFILE_HEADER, WORKSPACE_HEADER})
HEADER_VALUE = re.compile(f"[!-~]{{1,{MAX_BETAS_LENGTH}}}")

UNREADABLE = (KeyError, ValueError, RecursionError, MemoryError)
"""Raised by reading an entry: msgspec's errors are ValueErrors; a few bytes can claim to be a list of billions."""

REPLY_LIST = re.compile(re.escape(REPLIES) + "[0-9a-f]{32}")
NAME = re.compile("[!-~]{1,128}")

ESCAPED_NUL = b"\\u0000"


def check_terms(terms: Entry | Envelope) -> None:
    """Raise ValueError, naming the field and the rule, if what requests share would do harm."""
    check_client(terms.client)
    if not is_model(terms.model):
        raise ValueError("model: must be the name of a model, without spaces")
    if abs(terms.priority) > MAX_PRIORITY:
        raise ValueError(f"priority: must be from -{MAX_PRIORITY} to {MAX_PRIORITY}")
    _check_headers(terms.headers)
    if terms.callback:
        _check_callback(terms.callback)
    if terms.reply_to is not None and not REPLY_LIST.fullmatch(terms.reply_to):
        raise ValueError("reply_to: must be the name of a reply list")
    for field in ("account", "gateway_key", "client_batch"):
        _check_name(field, getattr(terms, field))


def check(envelopes: Iterable[Envelope], *, terms_are_checked: bool = False) -> None:
    """Raise ValueError, naming the field and the rule, for the first envelope that would do harm."""
    for envelope in envelopes:
        if not REQUEST_ID.fullmatch(envelope.id):
            raise ValueError("id: must be 32 hexadecimal digits")
        if not terms_are_checked:
            check_terms(envelope)
        if "\0" in (envelope.idempotency_key or ""):
            raise ValueError("idempotency_key: must not contain a NUL character")
        if not 0 <= envelope.enqueued_at <= LATEST:
            raise ValueError("enqueued_at: must be milliseconds since the epoch")
        if not 0 <= (envelope.submit_by or 0) <= LATEST:
            raise ValueError("submit_by: must be milliseconds since the epoch")
        if not 0 <= (envelope.deadline or 0) <= LATEST:
            raise ValueError("deadline: must be milliseconds since the epoch")
        if envelope.deadline_policy not in (None, *DEADLINE_POLICIES):
            raise ValueError(f"deadline_policy: must be one of {', '.join(DEADLINE_POLICIES)}")
        if envelope.trace is not None and not TRACEPARENT.fullmatch(envelope.trace):
            raise ValueError("trace: must be a W3C traceparent")
        _check_params(envelope.params)
        if envelope.metadata:
            _check_json("metadata", envelope.metadata)  # becomes part of the answer as it is
        if envelope.tags:
            checked_tags(envelope.tags)
        _check_name("custom_id", envelope.custom_id)


def check_cancel(command: Cancel) -> None:
    """Raise ValueError, naming the field and the rule, for a cancel command that would do harm."""
    if not all(map(REQUEST_ID.fullmatch, command.ids or ())):
        raise ValueError("ids: each must be 32 hexadecimal digits")
    check_client(command.client)
    if not 0 <= command.at <= LATEST:
        raise ValueError("at: must be milliseconds since the epoch")


def _check_name(field: str, name: str | None) -> None:
    if name is not None and not NAME.fullmatch(name):
        raise ValueError(f"{field}: must be 1 to 128 visible ASCII characters")


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
