"""The requests of a create's body, checked while it arrives and kept on disk in parts.

The body is cut before a `,{"custom_id":` and read part by part. That text can't occur inside a JSON string, where its
quotes would be escaped; if it occurs within params, the part is not valid JSON, which is noticed. Such bodies, and
those that are written differently, are read as a whole from the file, which is slower; their requests are written again
behind it, so that they are in parts too.
"""

import mmap
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, BinaryIO, NamedTuple, TypeAlias

import msgspec

from carpool_worker.batch_bodies.strict import CUSTOM_ID, BodyRefused, read_strictly

ITEM_START = b'{"custom_id":'
SEPARATOR = b"," + ITEM_START
OPENING = b'{"requests":['
CLOSING = b"]}"
MAX_REQUESTS = 100_000
MAX_BODY_BYTES = 256_000_000
"""The API's limits for a batch."""

MAX_REST_BYTES = 16_000_000
"""A longer request is left to the strict reader: waiting for its end would search it over and over."""

PART_REQUESTS = 100
PART_BYTES = 256_000
"""How much the strict reader puts into one part; a single longer request has a part of its own."""

# Where each part of the body begins and ends, alternately.
Bounds: TypeAlias = "array[int]"  # array is not generic at run time before Python 3.12


class Item(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """One request of a batch, its params unread."""

    custom_id: Annotated[str, msgspec.Meta(pattern=rf"\A{CUSTOM_ID}\Z")]
    params: msgspec.Raw


class Spooled(NamedTuple):
    """A body on disk: the number of its requests, and the bounds of its parts, each a JSON list without brackets."""

    size: int
    parts: Bounds


decode_items = msgspec.json.Decoder(list[Item]).decode


def _nothing(first: int, items: Sequence[Item]) -> None:
    """Do nothing with the requests of a part."""


class BodySpool:
    """Writes a body to a file, which is open for both, and checks it part by part.

    `see` gets each part's requests, and the number of the first of them. If the body turns out to need the strict
    reader, it gets them all once more, beginning with number 0.
    """

    def __init__(self, file: BinaryIO, see: Callable[[int, Sequence[Item]], None] = _nothing) -> None:
        self._file = file
        self._see = see
        self._parts = array("Q")
        self._custom_ids: set[str] = set()
        self._next_start = len(OPENING)
        self._rest = b""
        self._opened = False
        self._is_plain = True

    def feed(self, block: bytes) -> None:
        """Take the next part of the body."""
        self._file.write(block)
        if self._is_plain:
            self._cut(self._rest + block)

    def finish(self) -> Spooled:
        """Return what is on disk; raise BodyRefused."""
        self._is_plain = self._is_plain and self._opened and self._rest.endswith(CLOSING)
        if self._is_plain:
            self._take(self._rest.removesuffix(CLOSING))
        if self._is_plain and self._custom_ids:
            return Spooled(len(self._custom_ids), self._parts)
        self._custom_ids = set()
        return self._start_over()

    def _cut(self, text: bytes) -> None:
        if not self._opened and len(text) >= len(OPENING):
            self._opened = True
            self._is_plain = text.startswith(OPENING)
            text = text[len(OPENING) :]
        cut = text.rfind(SEPARATOR) if self._opened and self._is_plain else -1
        if cut > 0:
            self._take(text[:cut])
        self._rest = text[cut + 1 :]
        self._is_plain = self._is_plain and len(self._rest) <= MAX_REST_BYTES

    def _take(self, part: bytes) -> None:
        """Record a part, unless it needs the strict reader."""
        try:
            if not part.isascii():
                part.decode()  # msgspec does not look into params
            items = decode_items(b"[" + part + b"]")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._is_plain = False
            return
        first = len(self._custom_ids)
        expected = first + len(items)
        self._custom_ids.update([item.custom_id for item in items])
        self._is_plain = len(self._custom_ids) == expected <= MAX_REQUESTS and _have_object_params(items)
        self._parts.extend((self._next_start, self._next_start + len(part)))
        self._next_start += len(part) + 1
        if self._is_plain:
            self._see(first, items)

    def _start_over(self) -> Spooled:
        """Read the body strictly, from the file as a whole, and write its requests again, behind it."""
        end = self._file.tell()
        # Requests are views of it, so it is never closed by hand: it goes with the last of them.
        body = mmap.mmap(self._file.fileno(), end, access=mmap.ACCESS_READ) if end else b""
        requests = read_strictly(body, MAX_REQUESTS)
        parts, first = array("Q"), 0
        for some in _in_parts(requests):
            items = [Item(*request) for request in some]
            part = msgspec.json.encode(items)[1:-1]
            self._file.write(part)
            parts.extend((end, end + len(part)))
            end += len(part)
            self._see(first, items)
            first += len(items)
        return Spooled(len(requests), parts)


def read_part(file: BinaryIO, start: int, end: int) -> list[Item]:
    """Return the requests of a part of a spooled body."""
    file.seek(start)
    return decode_items(b"[" + file.read(end - start) + b"]")


def _in_parts(requests: Sequence[tuple[str, msgspec.Raw]]) -> Iterator[Sequence[tuple[str, msgspec.Raw]]]:
    start = size = 0
    for at, (_, params) in enumerate(requests):
        length = memoryview(params).nbytes
        if at > start and (at - start == PART_REQUESTS or size + length > PART_BYTES):
            yield requests[start:at]
            start, size = at, 0
        size += length
    yield requests[start:]


def _have_object_params(items: Sequence[Item]) -> bool:
    return all(memoryview(item.params)[0] == ord("{") for item in items)


__all__ = ["BodyRefused", "BodySpool", "Bounds", "Item", "Spooled", "decode_items", "read_part"]
