"""The requests of a create's body, found while it arrives and kept on disk.

Bodies written without whitespace are cut at `,{"custom_id":`. Inside a JSON string that is impossible (its
quotes would be escaped); where it occurs deeper in the params, the pieces are not valid JSON and it shows.
All other bodies are read as a whole, which is slower and takes memory.
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
# A single request this long is left to the thorough way: cutting would search it over and over.
MAX_PIECE_BYTES = 16_000_000


class Item(msgspec.Struct, forbid_unknown_fields=True):
    """One request of a batch, its params unread."""

    custom_id: Annotated[str, msgspec.Meta(pattern=r"\A[a-zA-Z0-9_-]{1,64}\Z")]
    params: msgspec.Raw


decode_item = msgspec.json.Decoder(Item).decode


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
        if self._is_plain and len(self._custom_ids) <= MAX_REQUESTS:
            return self._bounds
        return self._start_over()

    def close(self) -> None:
        """Close the file, also when the body never came to its end."""
        self._file.close()

    def _cut(self, text: bytes) -> None:
        if not self._opened and len(text) >= len(OPENING):
            self._opened = True
            self._is_plain = text.startswith(OPENING)
            text = text[len(OPENING) :]
        if self._opened and self._is_plain:
            *pieces, text = text.split(SEPARATOR)
            for piece in pieces:
                self._take(piece)
        self._rest = text
        self._is_plain = self._is_plain and len(text) <= MAX_PIECE_BYTES

    def _take(self, piece: bytes) -> None:
        try:
            item = decode_item(ITEM_START + piece)
        except msgspec.DecodeError:
            self._is_plain = False
            return
        self._custom_ids.add(item.custom_id)
        end = self._next_start + len(ITEM_START) + len(piece)
        self._bounds.append(self._next_start)
        self._bounds.append(end)
        self._next_start = end + 1
        self._is_plain &= 2 * len(self._custom_ids) == len(self._bounds) and memoryview(item.params)[
            0
        ] == ord("{")

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
