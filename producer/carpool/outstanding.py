"""The requests of a wait: which have no answer yet, in little memory however many they are."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator

from carpool.contract import REQUEST_ID
from carpool.exceptions import InvalidRequest
from carpool.request_ids import ID_BYTES, RequestIds

LAST_WORD = 3
"""Of the four 32-bit words of an id the one to look it up by: it is random in each kind of id."""


class Outstanding:
    """Distinct ids in their order, and for each whether it is settled: 25 to 33 bytes an id, where a set takes 100.

    The ids are looked up in a hash table with open addressing, whose slots hold an id's position and 1, or 0.
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self._ids = _packed(ids)
        self._is_settled = bytearray(len(self._ids) // ID_BYTES)
        self._mask = max(2, 1 << (2 * len(self._is_settled) - 1).bit_length()) - 1
        self._slots = array("I", bytes(4 * (self._mask + 1)))
        for at, word in enumerate(memoryview(self._ids).cast("I")[LAST_WORD::4]):
            slot = self._slot(self._ids[at * ID_BYTES : (at + 1) * ID_BYTES], word)
            if self._slots[slot]:
                self._is_settled[at] = True  # it is there twice
            else:
                self._slots[slot] = at + 1
        self._count = self._is_settled.count(False)

    def __len__(self) -> int:
        """Return how many are not settled."""
        return self._count

    def __iter__(self) -> Iterator[bytes]:
        """Yield those that are not settled, 16 bytes each."""
        places = (at for at, is_settled in enumerate(self._is_settled) if not is_settled)
        return (bytes(self._ids[at * ID_BYTES : (at + 1) * ID_BYTES]) for at in places)

    def __contains__(self, id_: bytes) -> bool:
        """Return whether the id (16 bytes) is one of these, and not settled."""
        word = int.from_bytes(id_[4 * LAST_WORD :], sys.byteorder)
        at = self._slots[self._slot(id_, word)] - 1
        return at >= 0 and not self._is_settled[at]

    def settle(self, ids: bytes) -> tuple[list[int], list[int]]:
        """Settle ids, 16 bytes each.

        Returns the places, in `ids`, of those that were not settled before, and of those that are none of these.
        """
        fresh, unknown = [], []
        for at, word in enumerate(memoryview(ids).cast("I")[LAST_WORD::4]):
            place = self._slots[self._slot(ids[at * ID_BYTES : (at + 1) * ID_BYTES], word)]
            if not place:
                unknown.append(at)
            elif not self._is_settled[place - 1]:
                self._is_settled[place - 1] = True
                fresh.append(at)
        self._count -= len(fresh)
        return fresh, unknown

    def count(self, span: range) -> int:
        """Return how many of the ids at these positions are not settled."""
        return self._is_settled.count(False, span.start, span.stop)

    def ids(self, span: range | None = None) -> RequestIds:
        """Return the ids (at these positions) that are not settled."""
        places = (at for at in span or range(len(self._is_settled)) if not self._is_settled[at])
        return RequestIds.packed(b"".join(self._ids[at * ID_BYTES : (at + 1) * ID_BYTES] for at in places))

    def next_span(self, start: int, length: int) -> range:
        """Return so many positions, or fewer, from `start` on, the first of which is not settled; maybe none."""
        first = self._is_settled.find(False, start)
        return range(0) if first < 0 else range(first, min(first + length, len(self._is_settled)))

    def _slot(self, id_: bytes | bytearray, word: int) -> int:
        """Return the slot that the id is in, or the free one that it would be in."""
        slot = word & self._mask
        while place := self._slots[slot]:
            if self._ids[(place - 1) * ID_BYTES : place * ID_BYTES] == id_:
                break
            slot = slot + 1 & self._mask
        return slot


def checked_id(request_id: object) -> str:
    """Return a request's id as it is; raises InvalidRequest if it is malformed."""
    if not isinstance(request_id, str) or not REQUEST_ID.fullmatch(request_id):
        raise InvalidRequest("request_id", "must be 32 hexadecimal digits, as enqueue returned them")
    return request_id


def _packed(ids: Iterable[str]) -> bytearray:
    packed = bytearray()
    if isinstance(ids, RequestIds):
        packed += ids.binary
    else:
        for id_ in ids:
            packed += bytes.fromhex(checked_id(id_))
    return packed
