"""What waits at a place that clients share: they take turns by weight, and each one's items keep their order. Pure.

It is start-time fair queueing as in policies/fairness.py, for what goes one by one instead of by batches.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

from carpool_worker.policies.fairness import Turns, Weights

Item = TypeVar("Item")


class TurnQueue(Generic[Item]):
    """The items that wait; each has a client, and costs it at least 1 of its turn.

    `draw` returns a number that decides between clients that stand alike, once for each. Where queues are short-lived
    it should be random, or the same client would be first in all of them.
    """

    def __init__(
        self,
        weights: Weights,
        client_of: Callable[[Item], str],
        cost_of: Callable[[Item], int],
        draw: Callable[[], float],
    ) -> None:
        self._client_of = client_of
        self._cost_of = cost_of
        self._turns = Turns(weights)
        self._draws: defaultdict[str, float] = defaultdict(draw)
        self._queues: dict[str, deque[Item]] = {}  # none is empty
        self._stands: dict[str, int] = {}  # those that have something, in virtual time
        self._line: list[
            tuple[int, float, str]
        ] = []  # a heap of them; what is not in `_stands` so is out of date
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def clients(self) -> list[str]:
        """The clients that have something here."""
        return list(self._queues)

    def add(self, item: Item) -> None:
        """Add an item behind the others of its client."""
        client = self._client_of(item)
        self._length += 1
        if client in self._queues:
            self._queues[client].append(item)
            return
        self._queues[client] = deque([item])
        self._stand(client, self._turns.start(client))

    def take(self) -> Item:
        """Remove and return the first item of the client whose turn it is.

        Raises:
            IndexError: nothing waits.
        """
        stood, draw, client = heapq.heappop(self._line)
        while self._stands.get(client) != stood:
            stood, draw, client = heapq.heappop(self._line)
        queue = self._queues[client]
        item = queue.popleft()
        self._length -= 1
        self._turns.clock = max(self._turns.clock, stood)
        self._turns.served[client] = stands = stood + self._cost(client, item)
        if queue:
            self._stands[client] = stands
            heapq.heappush(self._line, (stands, draw, client))
        else:
            del self._queues[client], self._stands[client]
        return item

    def put_back(self, item: Item) -> None:
        """Undo that this item was taken, after those of its client that were taken later."""
        client = self._client_of(item)
        stands = self._turns.served.get(client, self._turns.clock) - self._cost(client, item)
        self._turns.served[client] = stands
        self._queues.setdefault(client, deque()).appendleft(item)
        self._length += 1
        self._stand(client, stands)

    def cut(self, most: int) -> list[Item]:
        """Remove and return all but the `most` items that would be taken next."""
        turns = self._turns.copy()
        items = [self.take() for _ in range(self._length)]
        self._turns, self._line = turns, []
        for item in items[:most]:
            self.add(item)
        return items[most:]

    def _stand(self, client: str, stands: int) -> None:
        self._stands[client] = stands
        heapq.heappush(self._line, (stands, self._draws[client], client))

    def _cost(self, client: str, item: Item) -> int:
        return self._turns.cost(client, max(1, self._cost_of(item)))
