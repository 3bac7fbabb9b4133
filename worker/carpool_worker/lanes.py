"""How requests fill the batches of a lane, for the aggregator and for the stager: `fitting` decides, `fill` acts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import sqlalchemy as sa

from carpool_worker.models import Batch
from carpool_worker.settings import Settings
from carpool_worker.states import SEAL
from carpool_worker.store import batches, filling, requests
from carpool_worker.windows import DAY, Windows, first_open, longest_closed, parse_all

BODY_FRAME_BYTES = len(b'{"requests":[]}')
ITEM_FRAME_BYTES = len(b'{"custom_id":"","params":},') + 32
"""What a batch's JSON body adds to the params: once, and for each request (its id has 32 digits)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a batch is full (requests, bytes of its body) or due (seconds since its first request, in a window)."""

    count: int
    body_bytes: int
    seconds: float
    windows: Windows = ()

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Return what the settings say; a batch of more than `queue_limit` would never be admitted."""
        count = min(settings.flush_count, settings.queue_limit)
        windows = parse_all(settings.submit_windows)
        return cls(count, settings.flush_bytes, settings.flush_interval, windows)

    def due_at(self, opened_at: int) -> int:
        """Return when a batch that was opened then is due, unless it is full before; milliseconds since the epoch."""
        return first_open(self.windows, opened_at + int(self.seconds * 1000))

    def longest_open(self, at: int) -> int:
        """Return for how many milliseconds a batch may be open, windows being closed as they are around `at`."""
        return int(self.seconds * 1000) + longest_closed(self.windows, at // DAY) * 1000


def item_bytes(params_bytes: int) -> int:
    """Return what a request takes of a batch's body."""
    return params_bytes + ITEM_FRAME_BYTES


def fitting(sizes: Sequence[int], held_count: int, held_bytes: int, limits: Limits) -> int:
    """Return how many of the next requests, with params of `sizes` bytes, still fit into a batch.

    A batch that holds nothing takes the first request whatever its size, or that request would wait for ever.
    """
    room = max(0, limits.count - held_count)
    total = BODY_FRAME_BYTES + held_bytes
    for n, size in enumerate(sizes[:room]):
        total += item_bytes(size)
        if total > limits.body_bytes and held_count + n > 0:
            return n
    return min(room, len(sizes))


class Urgent(Protocol):
    """What says how soon it wants to go."""

    @property
    def priority(self) -> int:
        """The higher goes first."""

    @property
    def submit_by(self) -> int | None:
        """Milliseconds since the epoch: it should be on its way then."""


Item = TypeVar("Item", bound=Urgent)


def earliest(items: Iterable[Urgent]) -> int | None:
    """Return when the first of them should be on its way, in milliseconds since the epoch; None: none says so."""
    return min((item.submit_by for item in items if item.submit_by is not None), default=None)


@dataclass(slots=True)
class Filled:
    """Batches that were opened or sealed, requests that were canceled, batches that this left without any, and requests
    that their client's budget has no room for.
    """

    opened: list[str] = field(default_factory=list)
    sealed: list[str] = field(default_factory=list)
    canceled: list[str] = field(default_factory=list)
    dissolved: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Lane:
    """The requests that may share a batch: one model, one set of per-batch headers."""

    name: str
    model: str
    headers: Mapping[str, str]


def fill(
    connection: sa.Connection,
    lane: Lane,
    items: Sequence[Item],
    size_of: Callable[[Item], int],
    place: Callable[[str, Sequence[Item]], None],
    limits: Limits,
    now: int,
    filled: Filled,
) -> None:
    """Put `items` into the lane's open batch, sealing it and opening the next whenever it is full.

    Those of the highest priority come first.
    """
    items = sorted(items, key=lambda item: -item.priority)
    sizes = [size_of(item) for item in items]
    start = 0
    while start < len(items):
        batch = filling.open_in(connection, lane.name, lane.model, lane.headers, now)
        if batch.request_count == 0:
            filled.opened.append(batch.id)
        n = fitting(sizes[start:], batch.request_count, batch.body_bytes, limits)
        if n:
            part = items[start : start + n]
            place(batch.id, part)
            size = sum(map(item_bytes, sizes[start : start + n]))
            filling.grow(connection, batch.id, n, size, part[0].priority, earliest(part))
        start += n
        if start < len(items) or batch.request_count + n >= limits.count:
            batches.move(connection, SEAL, batch.id, sealed_at=now)
            filled.sealed.append(batch.id)


def hand_over(
    connection: sa.Connection, batch: Batch, some: Sequence[tuple[str, int]], now: int
) -> tuple[str, int]:
    """Move locked requests (id, bytes of their params) of a batch into a new one, which is born sealed.

    Returns its id, and the bytes that they take of a body.
    """
    size = sum(item_bytes(params_bytes) for _, params_bytes in some)
    heir = filling.insert_sealed(connection, batch, len(some), size, now)
    requests.hand_over(connection, [request_id for request_id, _ in some], heir)
    return heir, size
