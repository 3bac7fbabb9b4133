"""Entries of the inbox: requests with the same terms, packed into one, and unpacked again.

All requests of an entry are of one lane and callback: what they share is given once, and their params are one segment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from carpool.contract import Entry, Envelope, decode_entry, encode_entry
from carpool.idempotency import claim_of, claims_of
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
    gateway_key: str | None = None  # the name of the gateway's key that the requests come with


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
    tags: tuple[str, ...] = ()
    deadline: int | None = None  # milliseconds since the epoch
    deadline_policy: str | None = None
    most_queued: int = 0  # that may wait with its gateway_key; 0: any number. It stays out of the entry


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
        if request.tags:
            size += sum(map(len, request.tags))
        if size > SEGMENT_BYTES and self.requests:
            return False
        self.requests.append(request)
        self.places.append(place)
        self.size = size
        self.full = size >= SEGMENT_BYTES or len(self.requests) == SEGMENT_REQUESTS
        return True


class ClosedEntry(msgspec.Struct, frozen=True):
    """An entry that gets no more requests, packed. Of the requests themselves it keeps nothing, to save memory."""

    places: list[int]  # of its requests, among all of their call
    packed: bytes
    shard: int  # of the inbox
    terms: EntryTerms
    size: int  # bytes of the params
    most_queued: int  # as CheckedRequest has it
    claims: bytes = b""  # of those with an idempotency key

    @classmethod
    def of(cls, entry: OpenEntry, shard: int) -> ClosedEntry:
        """Return an entry that is to get no more requests."""
        requests = entry.requests
        size = sum([len(one.params) for one in requests])
        first = requests[0]
        return cls(
            *(entry.places, pack_entry(requests), shard, first.terms, size, first.most_queued),
            claims_of(requests),
        )

    def without_conflicts(
        self, conflicting: Iterable[int]
    ) -> tuple[list[ClosedEntry], dict[int, tuple[str, str]]]:
        """Take out the requests whose claims, by their places among its claims, are in conflict.

        Returns an entry of the others, if there are any; and of those taken out, by their places, the key and the id.
        """
        entry, every = decode_entry(self.packed), range(len(self.places))
        keys = entry.idempotency_keys or []
        keyed = [at for at, key in enumerate(keys) if key is not None]
        refused = {keyed[place] for place in conflicting}
        kept = [at for at in every if at not in refused]
        named = {self.places[at]: (keys[at] or "", _id_at(entry, at).hex()) for at in sorted(refused)}
        return [self.part(kept)] if kept else [], named

    def halves(self) -> list[ClosedEntry]:
        """Return its requests as two entries."""
        every, half = range(len(self.places)), len(self.places) // 2
        return [self.part(every[:half]), self.part(every[half:])]

    def part(self, kept: Sequence[int]) -> ClosedEntry:
        """Return an entry of those of its requests that are at these places in it."""
        entry = decode_entry(self.packed)
        columns = {
            name: [column[at] for at in kept]
            for name in Entry.__struct_fields__
            if isinstance(column := getattr(entry, name), list)
        }
        bodies, ids = unpack(entry.params), [_id_at(entry, at) for at in kept]
        own = [bodies[at] for at in kept]
        keys = columns.get("idempotency_keys", ())
        return replace(
            self,
            places=[self.places[at] for at in kept],
            packed=encode_entry(replace(entry, ids=b"".join(ids), params=pack(own), **columns)),
            size=sum(map(len, own)),
            claims=b"".join(
                [
                    claim_of(id_, body)
                    for id_, body, key in zip(ids, own, keys, strict=False)
                    if key is not None
                ]
            ),
        )


def _id_at(entry: Entry, at: int) -> bytes:
    return entry.ids[at * ID_BYTES : (at + 1) * ID_BYTES]


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
            gateway_key=terms.gateway_key,
            metadata=_column([one.metadata for one in requests]),
            idempotency_keys=_column([one.idempotency_key for one in requests]),
            submit_by=_column([one.submit_by for one in requests]),
            traces=_column([one.trace for one in requests]),
            tags=[list(one.tags) for one in requests] if any(one.tags for one in requests) else None,
            deadlines=_column([one.deadline for one in requests]),
            deadline_policies=_column([one.deadline_policy for one in requests]),
        )
    )


def envelopes(entry: Entry) -> list[Envelope]:
    """Return the requests of an entry, one by one; raises ValueError if its parts don't belong together."""
    bodies = unpack(entry.params)
    count, digits = len(bodies), entry.ids.hex()
    if len(entry.ids) != ID_BYTES * count or len(entry.enqueued_at) != count:
        raise ValueError("ids and enqueued_at: there must be one for each of the params")
    columns: Iterator[tuple[Any, ...]] = zip(
        (digits[start : start + 2 * ID_BYTES] for start in range(0, len(digits), 2 * ID_BYTES)),
        bodies,
        entry.enqueued_at,
        _of_each(entry.metadata, count),
        _of_each(entry.idempotency_keys, count),
        _of_each(entry.submit_by, count),
        _of_each(entry.traces, count),
        _of_each(entry.custom_ids, count),
        _of_each(entry.deadlines, count),
        _of_each(entry.tags, count),
        _of_each(entry.deadline_policies, count),
        strict=True,
    )
    return [
        Envelope(
            id_,
            entry.client,
            entry.model,
            params,
            entry.headers,
            entry.callback,
            metadata,
            key,
            enqueued_at,
            entry.priority,
            submit_by,
            trace,
            entry.reply_to,
            entry.account,
            entry.gateway_key,
            entry.client_batch,
            custom_id,
            deadline,
            tuple(tags or ()),
            policy,
        )
        for id_, params, enqueued_at, metadata, key, submit_by, trace, custom_id, deadline, tags, policy in columns
    ]


def _of_each(column: Sequence[Any] | None, count: int) -> Iterable[Any]:
    if column is None:
        return repeat(None, count)
    if len(column) != count:
        raise ValueError("a list must have an item for each of the requests")
    return column


def _column(values: list[Value | None]) -> list[Value | None] | None:
    return None if values.count(None) == len(values) else values
