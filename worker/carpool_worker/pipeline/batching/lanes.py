"""Fills a lane's batches with requests, for the aggregator and the stager: `fitting` decides, `fill` acts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

import sqlalchemy as sa

from carpool.contract import Envelope
from carpool_worker.policies.limits import Limits, before_edge, fitting, item_bytes
from carpool_worker.store.batches import filling, transitions
from carpool_worker.units import Milliseconds


class Queued(Protocol):
    """What goes into a batch."""

    @property
    def params_bytes(self) -> int:
        """Bytes of its params."""

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
    """Yield the id of a batch of the lane and the items that go into it, highest priority first, until all are placed.

    The caller writes them into that batch, and then takes the next; a full batch is sealed in between, and the next one
    opened. The items of a segment must follow each other. `filled` collects the batches opened and sealed.
    """
    items = sorted(items, key=lambda item: -item.priority)
    sizes = [item.params_bytes for item in items]
    segments = [item.segment_id for item in items]
    start = 0
    while start < len(items):
        batch = filling.open_in(
            connection, lane.name, lane.model, lane.headers, now, shard=lane.shard, account=lane.account
        )
        if batch.request_count == 0:
            filled.opened.append(batch.id)
        n = fitting(sizes[start:], batch.request_count, batch.body_bytes, limits)
        n = before_edge(segments[start:], sizes[start:], n, batch.request_count, limits)
        if n:
            part = items[start : start + n]
            yield batch.id, part
            size = sum(map(item_bytes, sizes[start : start + n]))
            filling.add_requests(
                connection,
                batch.id,
                n,
                size,
                part[0].priority,
                earliest(item.submit_by for item in part),
                earliest(item.due_by for item in part),
            )
        start += n
        if start < len(items) or batch.request_count + n >= limits.count:
            transitions.seal(connection, batch.id, now)
            filled.sealed.append(batch.id)
