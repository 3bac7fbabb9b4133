"""Whose turn it is where there is not room for all: clients take turns by weight. Pure.

It is start-time fair queueing (Goyal, Vin, Cheng 1996). Each account has a virtual clock, and each client a virtual
time until which it has been served: a request advances it by UNIT divided by the client's weight. The client that is
furthest behind goes next, and the clock moves to where that client stood. A client that had nothing to send begins at
the clock: it goes next, but gets nothing for the time when it wanted nothing. Within a client priority holds, then age.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple, TypeVar

DEFAULT = "default"
"""The weight of each client without one of its own, and of the client of that name."""

UNIT = 1_000
"""Virtual time that a request of a client of weight 1 takes."""

MOST_MOVED = 20_000
"""Requests that are moved at a time into a batch of those whose turn it is: so no transaction is long."""

MOST_SOURCES = 8
"""Batches that they are taken from at a time."""

Weights = Mapping[str, float]
"""How much clients get beside each other; 1 for those that are not named, unless DEFAULT is."""


def weight_of(weights: Weights, client: str) -> float:
    """Return a client's weight."""
    return weights.get(client, weights.get(DEFAULT, 1.0))


class Share(NamedTuple):
    """What a batch has of a client: so many requests, of this priority at most."""

    requests: int
    priority: int = 0


Shares = Mapping[str, Share]
"""What a batch has of each client."""


class Unsent(NamedTuple):
    """A batch that has not been submitted. Requests of open ones can be taken too, but only sealed ones are posted."""

    id: str
    lane: str
    opened_at: int  # milliseconds since the epoch
    shares: Shares
    is_open: bool = False
    is_gathered: bool = False  # for somebody's turn already
    marked: str | None = None  # what is marked in it for the prompt cache

    def key(self, client: str) -> tuple[int, int, bool, str]:
        """Return what orders the batches of a client: priority, then age; of a batch and what was taken from it, that.

        Raises:
            KeyError: it has none of this client's requests.
        """
        return (-self.shares[client].priority, self.opened_at, not self.is_gathered, self.id)


class Turns:
    """Until when each client of an account has been served, in virtual time."""

    def __init__(
        self, weights: Weights | None = None, clock: int = 0, served: Mapping[str, int] | None = None
    ) -> None:
        self.clock = clock
        self.served = dict(served or {})
        self._weights = weights or {}

    def copy(self) -> Turns:
        """Return turns that go on from here without changing these."""
        return Turns(self._weights, self.clock, self.served)

    def start(self, client: str) -> int:
        """Return where a client that has something to send stands."""
        return max(self.clock, self.served.get(client, 0))

    def cost(self, client: str, requests: float) -> int:
        """Return how far so many requests advance a client."""
        return round(requests * UNIT / weight_of(self._weights, client))

    def serve(self, shares: Shares) -> None:
        """Advance the clients of a batch that goes."""
        if not shares:
            return
        self.clock = min(map(self.start, shares))
        for client, share in shares.items():
            self.served[client] = self.start(client) + self.cost(client, share.requests)


class NextBatch(NamedTuple):
    """A client, and its batch that goes next."""

    client: str
    batch: Unsent


def in_turns(unsent: Iterable[Unsent], turns: Turns) -> Iterator[NextBatch]:
    """Yield batches in the order in which they go, each with the client whose turn it is; `turns` are not changed.

    All clients of a batch advance by what they have in it, whosever turn it is.
    """
    turns = turns.copy()
    queues: defaultdict[str, list[Unsent]] = defaultdict(list)
    for batch in unsent:
        for client in batch.shares:
            queues[client].append(batch)
    gone = set[str]()

    def standing(client: str) -> tuple[int, int, str, str] | None:
        queue = queues[client]
        while queue and queue[-1].id in gone:
            queue.pop()
        return (turns.start(client), queue[-1].opened_at, queue[-1].id, client) if queue else None

    for client, queue in queues.items():
        queue.sort(key=lambda batch: batch.key(client), reverse=True)
    waiting = [found for client in queues if (found := standing(client))]
    heapq.heapify(waiting)
    while waiting:
        noted = heapq.heappop(waiting)
        found = standing(noted[-1])
        if found == noted:
            batch = queues[noted[-1]][-1]
            turns.serve(batch.shares)
            gone.add(batch.id)
            yield NextBatch(noted[-1], batch)
            found = standing(noted[-1])
        if found:
            heapq.heappush(waiting, found)


class Gathering(NamedTuple):
    """Up to `most` requests of these clients are to be put into a batch of their own, from these batches in order."""

    clients: frozenset[str]
    sources: Sequence[Unsent]
    most: int


def gathering(unsent: Sequence[Unsent], turns: Turns, full: int, room: int) -> Gathering | None:
    """Return what has to be gathered so that the client goes whose turn it is; None if its batch goes as it is.

    A batch that it shares with others goes as it is unless one of those would get too far ahead: by more than `full`
    requests, the most that a batch has. Otherwise its requests leave that batch, together with those of all other
    clients in the lane that can be served whole within its turn, as far as Anthropic has `room` for so many requests.
    """
    turn = next(in_turns(unsent, turns), None)
    if turn is None or _goes_whole(turn, turns, full):
        return None
    batch = turn.batch
    lane = [one for one in unsent if (one.lane, one.marked) == (batch.lane, batch.marked)]
    totals = Counter[str]()
    for one in lane:
        totals.update({client: share.requests for client, share in one.shares.items()})
    most = min(full, MOST_MOVED)
    clients = next(
        (
            found
            for limit in (min(room, most), most)
            if turn.client in (found := served_whole(totals, turns, limit))
        ),
        frozenset([turn.client]),
    )
    if not batch.is_open and clients.issuperset(batch.shares):
        return None
    sources = sorted(
        (one for one in lane if clients.intersection(one.shares)),
        key=lambda one: (one.id != batch.id, turn.client not in one.shares, _key(one, clients)),
    )
    return Gathering(clients, sources[:MOST_SOURCES], most)


def served_whole(totals: Mapping[str, int], turns: Turns, room: int) -> frozenset[str]:
    """Return the clients of which all goes if `room` requests are shared out by turns; `totals` is what each has."""
    starts = {client: turns.start(client) for client in totals}
    ends = {client: starts[client] + turns.cost(client, count) for client, count in totals.items()}

    def taken(level: int) -> float:
        return sum(
            min(count, max(0, level - starts[client]) / turns.cost(client, 1))
            for client, count in totals.items()
        )

    levels = sorted(set(ends.values()))
    reached = bisect_right(levels, float(room), key=taken)
    return frozenset(client for client, end in ends.items() if reached and end <= levels[reached - 1])


def _key(batch: Unsent, clients: frozenset[str]) -> tuple[int, int, bool, str]:
    return min(batch.key(client) for client in clients.intersection(batch.shares))


def _goes_whole(turn: NextBatch, turns: Turns, full: int) -> bool:
    client, batch = turn
    if batch.is_open:
        return False
    begins = turns.start(client)
    return batch.is_gathered or all(
        turns.start(other) - begins + turns.cost(other, share.requests) <= turns.cost(other, full)
        for other, share in batch.shares.items()
        if other != client
    )


Item = TypeVar("Item")


def interleaved(
    items: Sequence[Item],
    client_of: Callable[[Item], str],
    order: Callable[[Item], int],
    run_of: Callable[[Item], object],
    weights: Weights,
) -> list[Item]:
    """Return items in turns of their clients, each client's in this order; those of a run stay together.

    It is for items that arrive at once, and begins with the client of the first. A run is of one client.
    """
    runs: defaultdict[str, list[list[Item]]] = defaultdict(list)
    for _, run in groupby(sorted(items, key=order), key=run_of):
        alike = list(run)
        runs[client_of(alike[0])].append(alike)
    turns = Turns(weights)
    waiting = [(0, number, client, iter(own)) for number, (client, own) in enumerate(runs.items())]
    found: list[Item] = []
    while waiting:
        stood, number, client, rest = heapq.heappop(waiting)
        if next_run := next(rest, None):
            found += next_run
            heapq.heappush(waiting, (stood + turns.cost(client, len(next_run)), number, client, rest))
    return found
