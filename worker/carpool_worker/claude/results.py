"""Reads the lines of a batch's results: which request each belongs to, and its result byte for byte."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec

from carpool_worker.claude.usage import Message, read_message
from carpool_worker.exceptions import ClaudeError, ResultsCut
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)

CUSTOM_ID = "[a-zA-Z0-9_-]{1,64}"
NAME = re.compile(CUSTOM_ID)
"""The Message Batches API's own rule."""

CHUNK_LINES = 4_000
CHUNK_BYTES = 8_000_000
"""A chunk of lines, committed in one transaction, ends once it reaches either of these."""


BOM = b"\xef\xbb\xbf"
"""UTF-8's byte order mark."""

BEFORE, BETWEEN = b'{"custom_id":"', b'","result":'
"""What the API writes before a line's custom_id, and between that and its result."""

LONGEST_START = len(BEFORE) + 64 + len(BETWEEN)

SUCCEEDED = "succeeded"
"""The one outcome that has a message."""

Outcome = Annotated[str, msgspec.Meta(pattern=r"\A[a-z][a-z0-9_-]{0,39}\Z")]
"""Anthropic's word for what became of a request; new ones may come."""


class ResultKind(msgspec.Struct, frozen=True, gc=False):
    """The one field that every result needs; if the others can't be read, it is read alone."""

    type: Outcome


class ParsedResult(msgspec.Struct, frozen=True, gc=False):
    """The fields of a result that decide what becomes of its request."""

    type: Outcome
    message: Message | None = None


class _Answered(msgspec.Struct, frozen=True, gc=False):
    """A result that has a message, whatever is in it."""

    message: dict[str, msgspec.Raw]


class _DirectMessage(msgspec.Struct, frozen=True, gc=False):
    """What an answer of the Messages API must have, to be one."""

    type: Literal["message"]
    id: str = ""


class ResultLine(msgspec.Struct, frozen=True, gc=False):
    """One line of the results; `result` is kept as it came."""

    custom_id: Annotated[str, msgspec.Meta(pattern=rf"\A{CUSTOM_ID}\Z")]
    result: msgspec.Raw


decode_line = msgspec.json.Decoder(ResultLine).decode
decode_result = msgspec.json.Decoder(ParsedResult).decode
decode_kind = msgspec.json.Decoder(ResultKind).decode
_decode_message = msgspec.json.Decoder(_DirectMessage).decode
_decode_answered = msgspec.json.Decoder(_Answered).decode


class ReadResult(NamedTuple):
    """A result, as it came, and what it says."""

    body: bytes
    parsed: ParsedResult
    is_countable: bool = True  # whether all that its price needs could be read


class ReadChunk(NamedTuple):
    """What some lines say: results by custom_id, apart by whether they have a message, and how many lines there were.

    `broken` lines were meant to be results; `strange` ones are something else, such as a proxy's page of HTML.
    """

    succeeded: dict[str, ReadResult]
    others: dict[str, ReadResult]
    lines: int  # without empty ones
    broken: int
    strange: int


def in_chunks(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield the lines in chunks, one for each transaction; what was read before an error is yielded before it."""
    chunk: list[bytes] = []
    size = 0
    try:
        for line in lines:
            chunk.append(line)
            size += len(line)
            if len(chunk) == CHUNK_LINES or size >= CHUNK_BYTES:
                yield chunk
                chunk, size = [], 0
    except (ClaudeError, ResultsCut):
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


def parse(lines: Sequence[bytes]) -> dict[str, ReadResult]:
    """Return each result by custom_id; of two, one that succeeded."""
    chunk = read_chunk(lines)
    return chunk.others | chunk.succeeded


def read_chunk(lines: Sequence[bytes]) -> ReadChunk:
    """Read some lines; of what can't be read only the length is logged.

    Where a request has two results, one that succeeded counts: its answer was made, and paid for.
    """
    succeeded: dict[str, ReadResult] = {}
    others: dict[str, ReadResult] = {}
    blank = broken = strange = size = 0
    for line in lines:
        try:
            custom_id, result = _read_plain(line) or _read(line)
            parsed = result.parsed
            if parsed.type != SUCCEEDED:
                others[custom_id] = result
                continue
            if parsed.message is None:
                _decode_answered(result.body)
            succeeded[custom_id] = result
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            if not line.strip():
                blank += 1
                continue
            is_broken = line.removeprefix(BOM).lstrip().startswith(b"{") and b'"custom_id"' in line
            broken, strange = broken + is_broken, strange + (not is_broken)
            size, last_error = size + len(line), type(error).__name__
    if broken or strange:
        log.error("result lines unreadable", count=broken + strange, bytes=size, error=last_error)
    for custom_id in others.keys() & succeeded.keys():
        del others[custom_id]
    return ReadChunk(succeeded, others, len(lines) - blank, broken, strange)


def read_message_result(message: bytes) -> tuple[ReadResult, str]:
    """Read an answer of the Messages API; return it as the result that it would be in a batch, and its id.

    Raises:
        ValueError: it is no whole message.
    """
    known = _decode_message(message)
    if not message.isascii():
        message.decode()
    return _understood(known.id, b'{"type":"succeeded","message":' + message.strip() + b"}"), known.id


def _read_plain(line: bytes) -> tuple[str, ReadResult] | None:
    """Read a line that is written as the API writes it: the two fields, in this order, no space between; else None.

    The result's bytes are cut out and decoded alone: as they are one JSON value, no field of the line comes twice.
    """
    end = line.find(BETWEEN, len(BEFORE), LONGEST_START)
    if end < 0 or line[-1:] != b"}" or not line.startswith(BEFORE):
        return None
    custom_id, body = line[len(BEFORE) : end].decode(errors="replace"), line[end + len(BETWEEN) : -1]
    if not NAME.fullmatch(custom_id):
        return None
    try:
        parsed = decode_result(body)
        if not body.isascii():
            body.decode()  # msgspec skips over most of the result: invalid UTF-8 would only show at the callback
    except (ValueError, RecursionError):
        return None
    return (custom_id, ReadResult(body, parsed)) if body[:1] == b"{" and body[-1:] == b"}" else None


def _read(line: bytes) -> tuple[str, ReadResult]:
    line = line.removeprefix(BOM)
    try:
        parsed = decode_line(line)
        if not line.isascii():
            line.decode()
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError):
        parsed = decode_line(_repaired(line))
        log.error("invalid characters of a result line replaced", bytes=len(line))
    body = bytes(parsed.result)
    return parsed.custom_id, _understood(parsed.custom_id, body)


def _understood(custom_id: str, body: bytes) -> ReadResult:
    # A paid answer must not be lost because of a field that only its price needs.
    try:
        return ReadResult(body, decode_result(body))
    except msgspec.ValidationError as error:
        kind = decode_kind(body)
        log.error("usage of a result unreadable", request=custom_id, error=str(error))
        message, is_countable = read_message(body)
        return ReadResult(body, ParsedResult(kind.type, message), is_countable)


def _repaired(line: bytes) -> bytes:
    # A paid answer must not be lost over invalid UTF-8 or half a surrogate pair.
    value = json.loads(line.decode(errors="replace"))
    return json.dumps(value, ensure_ascii=False).encode(errors="replace")
