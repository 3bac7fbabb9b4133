"""The requests of a create's body, checked while it arrives and kept on disk in parts.

The body is cut before a `,{"custom_id":` and read part by part. That text can't occur inside a JSON string, where its
quotes would be escaped; if it occurs within params, the part is not valid JSON, which is noticed. Such bodies, and
those that are written differently, are read as a whole, which is slower and takes memory.
"""

from array import array
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple, TypeAlias

import msgspec

from carpool_worker.simulator.strict import CUSTOM_ID, read_strictly

ITEM_START = b'{"custom_id":'
SEPARATOR = b"," + ITEM_START
OPENING = b'{"requests":['
CLOSING = b"]}"
MAX_REQUESTS = 100_000
# A longer request is left to the strict reader: waiting for its end would search it over and over.
MAX_REST_BYTES = 16_000_000
# How many requests the strict reader puts into one part.
PART_REQUESTS = 100

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


class BodySpool:
    """Writes a body to a file and checks it part by part."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO = path.open("wb", buffering=0)
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
        """Return what is on disk; raise ApiError if the body is refused."""
        self._is_plain = self._is_plain and self._opened and self._rest.endswith(CLOSING)
        if self._is_plain:
            self._take(self._rest.removesuffix(CLOSING))
        self.close()
        if self._is_plain and self._custom_ids:
            return Spooled(len(self._custom_ids), self._parts)
        return self._start_over()

    def close(self) -> None:
        """Close the file, even if the body never came to its end."""
        self._file.close()

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
            items = decode_items(b"[" + part + b"]")
        except msgspec.DecodeError:
            self._is_plain = False
            return
        expected = len(self._custom_ids) + len(items)
        self._custom_ids.update([item.custom_id for item in items])
        self._is_plain = len(self._custom_ids) == expected <= MAX_REQUESTS and _have_object_params(items)
        self._parts.extend((self._next_start, self._next_start + len(part)))
        self._next_start += len(part) + 1

    def _start_over(self) -> Spooled:
        """Read the body strictly, as a whole, and write its requests again."""
        requests = read_strictly(self._path.read_bytes(), MAX_REQUESTS)
        parts = array("Q")
        with self._path.open("wb") as file:
            for start in range(0, len(requests), PART_REQUESTS):
                items = [Item(*request) for request in requests[start : start + PART_REQUESTS]]
                part = msgspec.json.encode(items)[1:-1]
                parts.extend((file.tell(), file.tell() + len(part)))
                file.write(part)
        return Spooled(len(requests), parts)


def _have_object_params(items: list[Item]) -> bool:
    return all(memoryview(item.params)[0] == ord("{") for item in items)
