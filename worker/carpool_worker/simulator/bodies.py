"""The requests of a create's body, found while it arrives and kept on disk.

Bodies without whitespace are cut before a `,{"custom_id":` and read part by part. Inside a JSON string that is
impossible (its quotes would be escaped); where it stands deeper in the params, the part is not valid JSON and
it shows. Such bodies, and all others, are read as a whole, which is slower and takes memory.
"""

from array import array
from pathlib import Path
from typing import Annotated, BinaryIO, TypeAlias

import msgspec

from carpool_worker.simulator.strict import read_strictly

ITEM_START = b'{"custom_id":'
SEPARATOR = b"," + ITEM_START
OPENING = b'{"requests":[' + ITEM_START
CLOSING = b"]}"
# Start and end of each request in the body, in turn.
Bounds: TypeAlias = "array[int]"  # array is no generic at run time before Python 3.12
MAX_REQUESTS = 100_000
# A request this long is left to the thorough way: waiting for its end would search it over and over.
MAX_REST_BYTES = 16_000_000
# What surrounds custom_id and params of a request without whitespace.
WRAPPING_BYTES = len(b'{"custom_id":"","params":}')


class Item(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """One request of a batch, its params unread."""

    custom_id: Annotated[str, msgspec.Meta(pattern=r"\A[a-zA-Z0-9_-]{1,64}\Z")]
    params: msgspec.Raw


decode_item = msgspec.json.Decoder(Item).decode
decode_items = msgspec.json.Decoder(list[Item]).decode


class BodySpool:
    """Writes a body to a file and notes where each request of it begins and ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO = path.open("wb", buffering=0)
        self._bounds = array("Q")
        self._custom_ids: set[str] = set()
        self._next_start = len(OPENING) - len(ITEM_START)
        self._rest = b""
        self._opened = False
        self._is_plain = True

    def feed(self, block: bytes) -> None:
        """Take the next part of the body."""
        self._file.write(block)
        if self._is_plain:
            self._cut(self._rest + block)

    def finish(self) -> Bounds:
        """Return start and end of each request, in turn; raise ApiError when the body is refused."""
        self._is_plain = self._is_plain and self._opened and self._rest.endswith(CLOSING)
        if self._is_plain:
            self._take(self._rest.removesuffix(CLOSING))
        self.close()
        return self._bounds if self._is_plain else self._start_over()

    def close(self) -> None:
        """Close the file, also when the body never came to its end."""
        self._file.close()

    def _cut(self, text: bytes) -> None:
        if not self._opened and len(text) >= len(OPENING):
            self._opened = True
            self._is_plain = text.startswith(OPENING)
            text = text[self._next_start :]
        cut = text.rfind(SEPARATOR) if self._opened and self._is_plain else -1
        if cut > 0:
            self._take(text[:cut])
        self._rest = text[cut + 1 :]
        self._is_plain = self._is_plain and len(self._rest) <= MAX_REST_BYTES

    def _take(self, text: bytes) -> None:
        """Read whole requests with commas between them, unless there is anything unusual about them."""
        try:
            items = decode_items(b"[" + text + b"]")
        except msgspec.DecodeError:
            self._is_plain = False
            return
        start = self._next_start
        for item in items:
            params = memoryview(item.params)
            end = start + WRAPPING_BYTES + len(item.custom_id) + len(params)
            self._bounds.extend((start, end))
            self._is_plain &= params[0] == ord("{")
            start = end + 1
        self._custom_ids.update([item.custom_id for item in items])
        # Were there whitespace or escapes, the text would be longer than its requests in their shortest form.
        self._is_plain &= start == self._next_start + len(text) + 1
        self._is_plain &= len(self._custom_ids) == len(self._bounds) // 2 <= MAX_REQUESTS
        self._next_start = start

    def _start_over(self) -> Bounds:
        """Read the body as a whole, and write it again, a request a line."""
        requests = read_strictly(self._path.read_bytes(), MAX_REQUESTS)
        bounds = array("Q")
        with self._path.open("wb") as file:
            for custom_id, params in requests:
                start = file.tell()
                file.write(msgspec.json.encode(Item(custom_id, params)) + b"\n")
                bounds.extend((start, file.tell() - 1))
        return bounds
