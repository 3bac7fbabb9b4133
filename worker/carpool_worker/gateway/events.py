"""The events of a streamed Message, made from the whole one. Pure.

Whatever the SDKs put together from the events is the Message again. What there is a delta for comes as one; any other
block is whole in its `content_block_start`. Values are passed on in the bytes in which they came.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from carpool.contract import to_json

PING = b'event: ping\ndata: {"type": "ping"}\n\n'

Fields = dict[str, msgspec.Raw]

NULL = b"null"
EMPTY_TEXT, EMPTY_OBJECT, NO_BLOCKS, NOTHING = map(msgspec.Raw, (b'""', b"{}", b"[]", NULL))

END_FIELDS = ("stop_reason", "stop_sequence")
OPTIONAL_END_FIELDS = ("stop_details", "container")
"""Fields of the Message that `message_delta` brings; the second ones only where there is something in them."""

LATE_USAGE = ("output_tokens_details", "server_tool_use")
"""What else of the usage is only known at the end."""

TOOL_CALLS = ("tool_use", "server_tool_use")

_decode_fields = msgspec.json.Decoder(Fields).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode


def events_of(message: bytes) -> Iterator[bytes]:
    """Yield the events, as they are sent, of a Message (JSON)."""
    fields = _decode_fields(message)
    usage = _decode_fields(fields.get("usage", EMPTY_OBJECT))
    yield event("message_start", {"message": _started(fields, usage)})
    for index, block in enumerate(_decode_list(fields.get("content", NO_BLOCKS))):
        yield from _block_events(index, block)
    yield event("message_delta", {"delta": _ended(fields), "usage": _used(usage)})
    yield event("message_stop", {})


def event(name: str, fields: dict[str, object]) -> bytes:
    """Return one event, as it is sent."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), to_json({"type": name, **fields}))


def error_event(body: bytes) -> bytes:
    """Return the event that ends a stream with an error; `body` is that of the error's answer."""
    return b"event: error\ndata: %b\n\n" % body


def _started(fields: Fields, usage: Fields) -> dict[str, object]:
    begun = {name: NOTHING if name in END_FIELDS else value for name, value in fields.items()}
    late = {name for name in OPTIONAL_END_FIELDS if _is_given(fields, name)}
    start: dict[str, object] = {name: value for name, value in begun.items() if name not in late}
    # Who adds the tokens of the end to these must not count them twice.
    used = {name: value for name, value in usage.items() if name not in LATE_USAGE}
    return start | {"content": [], "usage": used | {"output_tokens": 0}}


def _ended(fields: Fields) -> Fields:
    delta = {name: fields.get(name, NOTHING) for name in END_FIELDS}
    return delta | {name: fields[name] for name in OPTIONAL_END_FIELDS if _is_given(fields, name)}


def _used(usage: Fields) -> Fields:
    late = {name: usage[name] for name in LATE_USAGE if _is_given(usage, name)}
    return {"output_tokens": usage.get("output_tokens", msgspec.Raw(b"0")), **late}


def _is_given(fields: Fields, name: str) -> bool:
    return name in fields and bytes(fields[name]) != NULL


def _block_events(index: int, block: msgspec.Raw) -> Iterator[bytes]:
    fields = _decode_fields(block)
    start, deltas = _split(_decode_text(fields.get("type", EMPTY_TEXT)), fields)
    yield event("content_block_start", {"index": index, "content_block": start})
    for delta in deltas:
        yield event("content_block_delta", {"index": index, "delta": delta})
    yield event("content_block_stop", {"index": index})


def _split(kind: str, fields: Fields) -> tuple[Fields, list[dict[str, object]]]:
    """Return how a block begins, and the deltas that complete it."""
    if kind == "text" and "text" in fields:
        return _text(fields)
    if kind in TOOL_CALLS and "input" in fields:
        json = bytes(fields["input"]).decode()
        return fields | {"input": EMPTY_OBJECT}, [{"type": "input_json_delta", "partial_json": json}]
    if kind == "thinking" and "thinking" in fields:
        thought: dict[str, object] = {"type": "thinking_delta", "thinking": fields["thinking"]}
        signed: dict[str, object] = {
            "type": "signature_delta",
            "signature": fields.get("signature", EMPTY_TEXT),
        }
        return fields | {"thinking": EMPTY_TEXT, "signature": EMPTY_TEXT}, [thought, signed]
    return fields, []


def _text(fields: Fields) -> tuple[Fields, list[dict[str, object]]]:
    # Clients that check strictly refuse "citations": null, so it is left out.
    start = {name: value for name, value in fields.items() if name != "citations"} | {"text": EMPTY_TEXT}
    deltas: list[dict[str, object]] = [{"type": "text_delta", "text": fields["text"]}]
    if _is_given(fields, "citations"):
        start["citations"] = NO_BLOCKS
        cited = _decode_list(fields["citations"])
        deltas += [{"type": "citations_delta", "citation": one} for one in cited]
    return start, deltas
