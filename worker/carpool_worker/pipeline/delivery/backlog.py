"""What a run of the courier has claimed, but not loaded: rows without their answers, by receiver."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from carpool_worker.pipeline.delivery.in_flight import OpenClaim

MOST_ROWS = 500
"""Rows that may wait to be loaded; they are small."""

LOADED_DELIVERIES = 1_000
"""Loaded at a time, and loaded ahead for a quick receiver."""


class Backlog:
    """Claimed rows; a receiver that has some is not claimed for again until they are loaded."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[OpenClaim]] = {}
        self._rows = 0

    @property
    def has_room(self) -> bool:
        """Whether more may be claimed."""
        return self._rows < MOST_ROWS

    @property
    def receivers(self) -> set[str]:
        """The receivers for which rows wait."""
        return set(self._queues)

    def add(self, claim: OpenClaim) -> None:
        """Add a claimed row."""
        self._queues.setdefault(claim.claimed.receiver, deque()).append(claim)
        self._rows += 1

    def put_back(self, claim: OpenClaim) -> None:
        """Add a row again that was taken to be loaded, before the others of its receiver."""
        self._queues.setdefault(claim.claimed.receiver, deque()).appendleft(claim)
        self._rows += 1

    def take(self, appetite: Callable[[str], int]) -> list[OpenClaim]:
        """Remove and return the rows to be loaded next; `appetite` is how many deliveries a receiver can do with.

        Receivers take turns: one that gets something goes behind the others.
        """
        taken: list[OpenClaim] = []
        left = LOADED_DELIVERIES
        for receiver in list(self._queues):
            hunger = min(left, appetite(receiver))
            queue = self._queues.pop(receiver)
            while queue and hunger > 0:
                taken.append(queue.popleft())
                hunger -= taken[-1].left
                left -= taken[-1].left
            if queue:
                self._queues[receiver] = queue
        self._rows -= len(taken)
        return taken

    def drop(self, receiver: str) -> list[OpenClaim]:
        """Remove and return the rows of a receiver."""
        dropped = list(self._queues.pop(receiver, ()))
        self._rows -= len(dropped)
        return dropped

    def drop_all(self) -> list[OpenClaim]:
        """Remove and return all rows."""
        return [claim for receiver in list(self._queues) for claim in self.drop(receiver)]
