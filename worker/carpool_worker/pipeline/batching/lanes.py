"""Fills a lane's batches with requests, for the aggregator and the stager: `fitting` decides, `fill` acts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple, Protocol, TypeVar

import sqlalchemy as sa

from carpool.contract import Envelope
from carpool_worker.models import Batch
from carpool_worker.policies.fairness import interleaved
from carpool_worker.policies.limits import Limits, before_edge, fitting, item_bytes
from carpool_worker.store.batches import filling, transitions
from carpool_worker.units import Milliseconds


class Queued(Protocol):
    """What goes into a batch."""

    @property
    def params_bytes(self) -> int:
        """Bytes of its params."""

    @property
    def client(self) -> str:
        """Whose request it is."""

    @property
    def segment_id(self) -> int:
        """The segment with its params."""

    @property
    def priority(self) -> int:
        """The highest goes first."""

    @property
    def submit_by(self) -> int | None:
        """When it should be submitted, in milliseconds since the epoch; None: at any time."""

    @property
    def due_by(self) -> int | None:
        """When its answer should be there, in milliseconds since the epoch; None: at any time."""


class Arrived(NamedTuple):
    """A new request, and the segment with its params."""

    envelope: Envelope
    segment_id: int

    @property
    def client(self) -> str:
        """Whose request it is."""
        return self.envelope.client

    @property
    def params_bytes(self) -> int:
        """Bytes of its params."""
        return len(self.envelope.params)

    @property
    def priority(self) -> int:
        """The highest goes first."""
        return self.envelope.priority

    @property
    def submit_by(self) -> int | None:
        """When it should be submitted, in milliseconds since the epoch; None: at any time."""
        return self.envelope.submit_by

    @property
    def due_by(self) -> int | None:
        """When its answer should be there, in milliseconds since the epoch; None: at any time, or it would expire."""
        return self.envelope.deadline if self.envelope.client_batch is None else None


Item = TypeVar("Item", bound=Queued)

_client, _segment = attrgetter("client"), attrgetter("segment_id")


def _by_priority(item: Queued) -> int:
    return -item.priority


def earliest(times: Iterable[int | None]) -> int | None:
    """Return the earliest of these times, or None if none is one."""
    return min((at for at in times if at is not None), default=None)


@dataclass(slots=True)
class Filled:
    """The ids of the batches and requests that changed state in a run."""

    opened: list[str] = field(default_factory=list)  # batches
    sealed: list[str] = field(default_factory=list)
    dissolved: list[str] = field(default_factory=list)  # canceling left them empty
    canceled: list[str] = field(default_factory=list)  # requests
    refused: list[str] = field(default_factory=list)  # they are over budget
    conflicting: list[Envelope] = field(default_factory=list)  # their keys were used with other params


@dataclass(frozen=True, slots=True)
class Lane:
    """The requests that may share a batch: one account, one model, one set of per-batch headers."""

    name: str
    model: str
    headers: Mapping[str, str]
    shard: int = 0  # of the inbox; each has open batches of its own
    account: str | None = None  # None: the default one


def fill(
    connection: sa.Connection,
    lane: Lane,
    items: Sequence[Item],
    limits: Limits,
    now: Milliseconds,
    filled: Filled,
) -> Iterator[tuple[str, Sequence[Item]]]:
    """Yield the id of a batch of the lane and the items that go into it, until all are placed.

    Where a batch has not room for all, clients take turns; within a client the highest priority goes first. The caller
    writes them into that batch, and then takes the next; a full batch is sealed in between, and the next one opened.
    The items of a segment must follow each other. `filled` collects the batches opened and sealed.
    """
    items, are_in_turns = sorted(items, key=_by_priority), False
    while items:
        batch = filling.open_in(
            connection, lane.name, lane.model, lane.headers, now, shard=lane.shard, account=lane.account
        )
        if batch.request_count == 0:
            filled.opened.append(batch.id)
        n = _fitting(items, batch, limits)
        if n < len(items) and not are_in_turns:
            items = interleaved(items, _client, _by_priority, _segment, limits.weights)
            are_in_turns = True
            n = _fitting(items, batch, limits)
        if n:
            part, items = items[:n], items[n:]
            yield batch.id, part
            filling.add_requests(
                connection,
                batch.id,
                n,
                sum(item_bytes(item.params_bytes) for item in part),
                max(item.priority for item in part),
                earliest(item.submit_by for item in part),
                earliest(item.due_by for item in part),
            )
        if items or batch.request_count + n >= limits.count:
            transitions.seal(connection, batch.id, now)
            filled.sealed.append(batch.id)


def _fitting(items: Sequence[Queued], batch: Batch, limits: Limits) -> int:
    sizes, segments = [item.params_bytes for item in items], [item.segment_id for item in items]
    n = fitting(sizes, batch.request_count, batch.body_bytes, limits)
    return before_edge(segments, sizes, n, batch.request_count, limits)
