"""Decides when a batch is full or due, and how many requests fit into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from carpool_worker.policies.windows import DAY, Windows, first_open, longest_closed

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
