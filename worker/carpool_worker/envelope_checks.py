"""What the aggregator refuses: a producer of ours never sends it, and it would make a database refuse a whole chunk,
the API a whole batch, or keep an answer from its callback.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from carpool.callbacks import decode as decode_callback
from carpool.contract import Cancel, Envelope

CUSTOM_ID = re.compile("[0-9a-f]{32}")
LATEST = 2**63 - 1
"""Milliseconds that fit into a BIGINT column."""

ESCAPED_NUL = b"\\u0000"


def check(envelopes: Iterable[Envelope]) -> None:
    """Raise ValueError, with field and rule, for the first envelope that would do harm."""
    for envelope in envelopes:
        if not CUSTOM_ID.fullmatch(envelope.id):
            raise ValueError("id: must be 32 hexadecimal digits")
        if "\0" in envelope.client + envelope.model + (envelope.idempotency_key or ""):
            raise ValueError("client, model, idempotency_key: must hold no NUL character")
        if not 0 <= envelope.enqueued_at <= LATEST:
            raise ValueError("enqueued_at: must be milliseconds since the epoch")
        if not all(value.isascii() and value.isprintable() for value in envelope.headers.values()):
            raise ValueError("headers: must be visible ASCII")
        if envelope.callback:
            _check_callback(envelope.callback)
        if envelope.metadata:
            msgspec.json.decode(envelope.metadata, type=msgspec.Raw)  # goes into the answer as it is


def check_cancel(wish: Cancel) -> None:
    """Raise ValueError, with field and rule, for a wish that would do harm."""
    if not all(map(CUSTOM_ID.fullmatch, wish.ids or ())):
        raise ValueError("ids: each must be 32 hexadecimal digits")
    if not wish.client or "\0" in wish.client:
        raise ValueError("client: must be a name without NUL characters")
    if not 0 <= wish.at <= LATEST:
        raise ValueError("at: must be milliseconds since the epoch")


def _check_callback(callback: bytes) -> None:
    if ESCAPED_NUL in callback:
        raise ValueError("callback: must hold no NUL character")
    decode_callback(callback)
