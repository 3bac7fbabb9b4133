"""Cuts the body of a batch's results into lines, a result each, however they were written on their way.

The API writes JSON Lines. Relays and proxies rewrite them: with a byte order mark, as one JSON array, an object over
several lines. None of that costs an answer. What is no result, such as a page of HTML, comes out as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain

import msgspec

from carpool_worker.claude.results import BOM, decode_line
from carpool_worker.exceptions import ResultsCut

BRACES = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}]')
"""A string of JSON, whose braces don't count, or a brace. It never goes back, however long a string is."""

BETWEEN = b' \t\r,[]{}"'
"""What may stand between the objects of an array, or is left of one that is broken."""


def result_lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the lines of a stream of bytes, without their newlines, each a JSON object where the stream has results.

    Raises:
        ResultsCut: the stream ended within a line or an object.
    """
    lines = _Lines(chunks)
    every = iter(lines)
    first = next((line for line in every if line.removeprefix(BOM).strip()), b"").removeprefix(BOM)
    if lines.are_folded(first):
        yield from _unfolded(chain([first], every))
    elif first:
        yield first
        yield from every


class _Lines:
    """The lines of a stream of bytes; empty ones are skipped. A last one without a newline must be whole."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._folded = False

    def are_folded(self, first: bytes) -> bool:
        """Return whether, by the first line, an object may take several lines, or a line have several objects."""
        start = first.lstrip()[:1]
        self._folded = start == b"[" or (start == b"{" and not _is_whole(first))
        return self._folded

    def __iter__(self) -> Iterator[bytes]:
        rest: list[bytes] = []
        for chunk in self._chunks:
            first, *others = chunk.split(b"\n")
            rest.append(first)
            if others:
                yield from filter(None, (b"".join(rest), *others[:-1]))
                rest = [others[-1]]
        last = b"".join(rest).strip()
        if bare := last.removeprefix(BOM).lstrip():
            # A first line is not known to be folded yet: an array may well be its only line.
            if not self._folded and bare[:1] != b"[" and not _is_whole(bare):
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


def _unfolded(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield each outermost object, in one piece, and whatever else stands between them."""
    parts: list[bytes] = []
    depth = 0
    for line in lines:
        if depth and _is_result(line):  # what came before it never ends: a broken line, not a folded one
            yield b"".join(parts)
            parts, depth = [], 0
        begin = end = 0
        for token in BRACES.finditer(line):
            if token[0] == b"{":
                if not depth:
                    begin = token.start()
                    yield from _strange(line[end:begin])
                depth += 1
            elif token[0] == b"}" and depth:
                depth -= 1
                if not depth:
                    end = token.end()
                    yield b"".join((*parts, line[begin:end]))
                    parts = []
        if depth:
            parts.append(line[begin:])
        else:
            yield from _strange(line[end:])
    if depth:
        raise ResultsCut


def _strange(between: bytes) -> Iterator[bytes]:
    if between.strip(BETWEEN):
        yield between


def _is_result(line: bytes) -> bool:
    if not line.startswith(b"{"):
        return False
    try:
        decode_line(line)
    except (ValueError, RecursionError):
        return False
    return True
