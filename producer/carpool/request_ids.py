"""The ids of many requests, 16 bytes each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import overload

from carpool.contract import mint_id

ID_BYTES = 16


class RequestIds(Sequence[str]):
    """A sequence of request ids (32 hex digits each) that takes 16 MB for a million of them."""

    __slots__ = ("_packed",)

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._packed = bytearray()
        self.extend(ids)

    @classmethod
    def packed(cls, ids: bytes | bytearray) -> RequestIds:
        """Return the ids that are given in binary, 16 bytes each."""
        made = cls()
        made._packed += ids
        return made

    @property
    def binary(self) -> bytes:
        """The ids in binary, 16 bytes each."""
        return bytes(self._packed)

    def extend(self, ids: Iterable[str]) -> None:
        """Append ids; raises ValueError for one that is not hexadecimal."""
        self._packed += bytes.fromhex("".join(ids))

    def __len__(self) -> int:
        return len(self._packed) // ID_BYTES

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> RequestIds: ...
    def __getitem__(self, at: int | slice) -> str | RequestIds:
        if isinstance(at, slice):
            return RequestIds(self[place] for place in range(*at.indices(len(self))))
        start = range(len(self))[at] * ID_BYTES
        return self._packed[start : start + ID_BYTES].hex()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RequestIds) and self._packed == other._packed

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(self[:3]) + (", …" if len(self) > 3 else "")
        return f"<RequestIds {len(self):,}: {shown}>"


def request_id_of(client: str, idempotency_key: str) -> str:
    """Return the id of the request that this client enqueues, or has enqueued, under this key.

    Of a request that was enqueued by a Celery message without a key, the key is `celery ` and the task's id.
    """
    return mint_id(client, idempotency_key)
