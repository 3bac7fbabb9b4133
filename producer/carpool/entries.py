"""Entries of the inbox: requests with the same terms, packed into one, and unpacked again.

All requests of an entry are of one lane and callback: what they share is given once, and their params are one segment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import msgspec

from carpool.contract import Entry, Envelope, encode_entry
from carpool.request_ids import ID_BYTES
from carpool.segments import SEGMENT_BYTES, SEGMENT_REQUESTS, pack, unpack

Value = TypeVar("Value")


class EntryTerms(msgspec.Struct, frozen=True, eq=False):
    """What all requests of an entry share, besides the model. Compared by identity; `envelopes.terms` makes them."""

    client: str
    headers: dict[str, str]
    callback: bytes | None  # JSON
    priority: int
    reply_to: str | None = None


class CheckedRequest(msgspec.Struct, frozen=True, gc=False):
    """One request, checked and encoded."""

    terms: EntryTerms
    model: str
    id: bytes
    params: bytes  # JSON
    enqueued_at: int  # milliseconds since the epoch
    metadata: bytes | None = None  # JSON
    idempotency_key: str | None = None
    submit_by: int | None = None  # milliseconds since the epoch
    trace: str | None = None


class OpenEntry:
    """The requests of an entry that is not full yet; all have the same terms and the same model."""

    __slots__ = ("full", "places", "requests", "size")

    def __init__(self) -> None:
        self.requests: list[CheckedRequest] = []
        self.places: list[int] = []
        """Of the requests, among all of their call."""
        self.size = 0
        """Bytes of the params, and of what else grows with a request."""
        self.full = False
        """Whether nothing else fits."""

    def add(self, request: CheckedRequest, place: int) -> bool:
        """Append the request if it fits; return whether it does."""
        size = self.size + len(request.params)
        if request.metadata is not None or request.idempotency_key is not None:
            size += len(request.metadata or b"") + len(request.idempotency_key or "")
        if size > SEGMENT_BYTES and self.requests:
            return False
        self.requests.append(request)
        self.places.append(place)
        self.size = size
        self.full = size >= SEGMENT_BYTES or len(self.requests) == SEGMENT_REQUESTS
        return True


def pack_entry(requests: Sequence[CheckedRequest]) -> bytes:
    """Return requests of the same terms and model as an entry of the inbox."""
    terms = requests[0].terms
    return encode_entry(
        Entry(
            client=terms.client,
            model=requests[0].model,
            headers=terms.headers,
            callback=terms.callback,
            priority=terms.priority,
            ids=b"".join([one.id for one in requests]),
            params=pack([one.params for one in requests]),
            enqueued_at=[one.enqueued_at for one in requests],
            reply_to=terms.reply_to,
            metadata=_column([one.metadata for one in requests]),
            idempotency_keys=_column([one.idempotency_key for one in requests]),
            submit_by=_column([one.submit_by for one in requests]),
            traces=_column([one.trace for one in requests]),
        )
    )


def envelopes(entry: Entry) -> Iterator[Envelope]:
    """Yield the requests of an entry, one by one; raises ValueError if its parts don't belong together."""
    bodies = unpack(entry.params)
    if len(entry.ids) % ID_BYTES:
        raise ValueError(f"ids: must have {ID_BYTES} bytes each")
    ids = [entry.ids[start : start + ID_BYTES].hex() for start in range(0, len(entry.ids), ID_BYTES)]
    nothing = [None] * len(ids)
    for id_, params, enqueued_at, metadata, key, submit_by, deadline, trace, custom_id, tags in zip(
        ids,
        bodies,
        entry.enqueued_at,
        entry.metadata or nothing,
        entry.idempotency_keys or nothing,
        entry.submit_by or nothing,
        entry.deadlines or nothing,
        entry.traces or nothing,
        entry.custom_ids or nothing,
        entry.tags or nothing,
        strict=True,
    ):
        yield Envelope(
            id=id_,
            client=entry.client,
            model=entry.model,
            params=params,
            headers=entry.headers,
            callback=entry.callback,
            metadata=metadata,
            idempotency_key=key,
            enqueued_at=enqueued_at,
            priority=entry.priority,
            submit_by=submit_by,
            trace=trace,
            reply_to=entry.reply_to,
            account=entry.account,
            gateway_key=entry.gateway_key,
            client_batch=entry.client_batch,
            custom_id=custom_id,
            deadline=deadline,
            tags=tuple(tags or ()),
        )


def _column(values: list[Value | None]) -> list[Value | None] | None:
    return None if values.count(None) == len(values) else values
