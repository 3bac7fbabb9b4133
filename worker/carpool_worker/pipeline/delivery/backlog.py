"""What a run of the courier has claimed, but not loaded: rows without their answers, by receiver."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection

from carpool_worker.pipeline.delivery.claims import Busy
from carpool_worker.pipeline.delivery.in_flight import OpenClaim
from carpool_worker.policies.fairness import Weights
from carpool_worker.policies.turn_queues import TurnQueue
from carpool_worker.store.deliveries.rows import Turn

MOST_ROWS = 500
"""Rows that may wait to be loaded; they are small."""

MOST_OF_ONE = 100
"""Of them, those for one receiver: others must find room."""

LOADED_DELIVERIES = 1_000
"""Loaded at a time, and loaded ahead for a quick receiver."""


class Backlog:
    """Claimed rows; at each receiver clients take turns by weight."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._queues: dict[str, TurnQueue[OpenClaim]] = {}  # none is empty
        self._rows = 0

    @property
    def has_room(self) -> bool:
        """Whether more may be claimed."""
        return self._rows < MOST_ROWS

    def busy(self, quick: Collection[str]) -> Busy:
        """Return for which to claim nothing before what waits for them is loaded.

        That is each client that has something here: a big one delays none that comes later. Of receivers that are not
        known to be `quick` it is all clients, as they may hang.
        """
        receivers, turns = set[str](), set[Turn]()
        for receiver, queue in self._queues.items():
            if receiver in quick and len(queue) < MOST_OF_ONE:
                turns.update(Turn(receiver, client) for client in queue.clients)
            else:
                receivers.add(receiver)
        return Busy(frozenset(receivers), frozenset(turns))

    def sharing(self, receivers: Collection[str]) -> dict[str, int]:
        """Return how many clients have something here for each of these receivers."""
        return {one: len(self._queues[one].clients) if one in self._queues else 0 for one in receivers}

    def add(self, claim: OpenClaim) -> None:
        """Add a claimed row."""
        self._queue_of(claim).add(claim)
        self._rows += 1

    def put_back(self, claim: OpenClaim) -> None:
        """Add a row again that was taken to be loaded, before the others of its client."""
        self._queue_of(claim).put_back(claim)
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
                taken.append(queue.take())
                hunger -= taken[-1].left
                left -= taken[-1].left
            if queue:
                self._queues[receiver] = queue
        self._rows -= len(taken)
        return taken

    def drop(self, receiver: str) -> list[OpenClaim]:
        """Remove and return the rows of a receiver."""
        queue = self._queues.pop(receiver, None)
        dropped = queue.cut(0) if queue else []
        self._rows -= len(dropped)
        return dropped

    def drop_all(self) -> list[OpenClaim]:
        """Remove and return all rows."""
        return [claim for receiver in list(self._queues) for claim in self.drop(receiver)]

    def _queue_of(self, claim: OpenClaim) -> TurnQueue[OpenClaim]:
        receiver = claim.claimed.receiver
        if receiver not in self._queues:
            self._queues[receiver] = TurnQueue(self._weights, _client_of, _deliveries_of, random.random)
        return self._queues[receiver]


def _client_of(claim: OpenClaim) -> str:
    return claim.claimed.client


def _deliveries_of(claim: OpenClaim) -> int:
    return claim.left
