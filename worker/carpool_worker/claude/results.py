"""Reads the lines of a batch's results: which request each belongs to, and its result byte for byte."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec

from carpool_worker.exceptions import ResultsCut
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)

CUSTOM_ID = "[a-zA-Z0-9_-]{1,64}"
"""The Message Batches API's own rule."""

CHUNK_LINES = 4_000
CHUNK_BYTES = 8_000_000
"""A chunk of lines, committed in one transaction, ends once it reaches either of these."""


class ResultLine(msgspec.Struct, frozen=True, gc=False):
    """One line of the results; `result` is kept as it came."""

    custom_id: Annotated[str, msgspec.Meta(pattern=rf"\A{CUSTOM_ID}\Z")]
    result: msgspec.Raw


decode_line = msgspec.json.Decoder(ResultLine).decode


def split_lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the lines of a stream of bytes, without their newlines; empty lines are skipped.

    Raises:
        ResultsCut: the last line has no newline and is not a whole JSON value.
    """
    rest: list[bytes] = []
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        rest.append(first)
        if others:
            yield from filter(None, (b"".join(rest), *others[:-1]))
            rest = [others[-1]]
    if last := b"".join(rest).strip():
        if not _is_whole(last):
            raise ResultsCut
        yield last


def _is_whole(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except msgspec.DecodeError:
        return False
    except RecursionError:
        return True  # nested too deeply to tell: it would be just as unreadable the next time
    return True


def in_chunks(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield the lines in chunks, one for each transaction."""
    chunk: list[bytes] = []
    size = 0
    for line in lines:
        chunk.append(line)
        size += len(line)
        if len(chunk) == CHUNK_LINES or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def parse(lines: Iterable[bytes]) -> dict[str, bytes]:
    """Return the bytes of each result by custom_id; an unreadable line is left out, and only its length is logged."""
    results = {}
    for line in lines:
        try:
            parsed = _read(line)
            results[parsed.custom_id] = bytes(parsed.result)
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            log.error("result line unreadable", bytes=len(line), error=type(error).__name__)
    return results


def _read(line: bytes) -> ResultLine:
    try:
        parsed = decode_line(line)
        if not line.isascii():
            line.decode()  # msgspec skips over the result: invalid UTF-8 in it would only show at the callback
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError):
        parsed = decode_line(_repaired(line))
        log.error("invalid characters of a result line replaced", bytes=len(line))
    return parsed


def _repaired(line: bytes) -> bytes:
    # A paid answer must not be lost over invalid UTF-8 or half a surrogate pair.
    value = json.loads(line.decode(errors="replace"))
    return json.dumps(value, ensure_ascii=False).encode(errors="replace")
