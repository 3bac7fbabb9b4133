"""What the worker tells a producer that waits for requests which nobody has enqueued; a part of the contract."""

from __future__ import annotations

import msgspec

NOT_THERE = b"?"
"""What begins such an item of a reply list: neither the JSON of an Answer nor the array of PackedAnswers does."""


class NotThere(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Follows NOT_THERE, in msgpack: these of the ids that a Wait named are no requests of its client.

    The worker has read all that was in the inbox when the wait began. Of the `forgotten` ones, the retention is over.
    """

    unknown: list[str]
    forgotten: list[str]


encode_not_there = msgspec.msgpack.Encoder().encode
decode_not_there = msgspec.msgpack.Decoder(NotThere).decode
