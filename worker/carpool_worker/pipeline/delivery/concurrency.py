"""How many deliveries are in flight at a time, in all and to one receiver. It does no input or output.

Receivers are served in rotation, so that a slow one with a thousand deliveries leaves the others their share; at each,
clients take turns by weight. One that hangs is recognised only when its time is up, so no receiver gets many at a time
before its first answer; receivers known to be slow share a small part of the whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Generic, TypeVar

from carpool_worker.policies.turn_queues import TurnQueue

FIRST_DELIVERIES = 2
"""In flight at a time to a receiver that has answered nothing yet."""

SLOW_SHARE = 10
"""All slow receivers together get one in this many places, and each of them one at a time."""

SLOW_WAITING = 10
"""Deliveries that may wait for one slow receiver; more would only take memory."""

Item = TypeVar("Item")


class ReceiverSpeed(Enum):
    """How fast a receiver was at its last try."""

    UNKNOWN = auto()
    QUICK = auto()
    SLOW = auto()


class Receiver(Generic[Item]):
    """The deliveries to one receiver: those that wait, and how many are in flight."""

    __slots__ = ("in_flight", "is_ready", "is_slow", "most", "speed", "waiting")

    def __init__(self, waiting: TurnQueue[Item], most: int) -> None:
        self.waiting = waiting
        self.in_flight = 0
        self.is_ready = False  # among those that may start one
        self.speed = ReceiverSpeed.UNKNOWN
        self.is_slow = False  # one of those that share a small part of the whole
        self.most = most  # that may be in flight


class ReceiverLimits(Generic[Item]):
    """Calls `start` for each item as soon as the limits allow; the caller reports each that is done to `finish`.

    What waits for a receiver is in a queue of `new_queue`.
    """

    def __init__(
        self,
        total: int,
        per_receiver: int,
        start: Callable[[str, Item], None],
        new_queue: Callable[[], TurnQueue[Item]],
    ) -> None:
        self._total = total
        self._slow_total = max(1, total // SLOW_SHARE)
        self._per_receiver = {
            ReceiverSpeed.UNKNOWN: min(FIRST_DELIVERIES, per_receiver),
            ReceiverSpeed.QUICK: per_receiver,
            ReceiverSpeed.SLOW: 1,
        }
        self._start = start
        self._new_queue = new_queue
        self._in_flight = 0
        self._slow_in_flight = 0
        self._receivers: dict[str, Receiver[Item]] = {}  # kept when empty: their speed must not be forgotten
        self._ready: deque[str] = deque()
        self._slow_ready: deque[str] = deque()

    def add(self, name: str, item: Item, is_failing: bool = False) -> None:
        """Queue an item for the receiver `name`; it may be started immediately. `is_failing`: its last try failed."""
        receiver = self._receivers.get(name)
        if receiver is None:
            receiver = Receiver(self._new_queue(), self._per_receiver[ReceiverSpeed.UNKNOWN])
            self._receivers[name] = receiver
        if is_failing and receiver.speed is ReceiverSpeed.UNKNOWN:
            self._set_speed(name, ReceiverSpeed.SLOW)
        receiver.waiting.add(item)
        self._list_if_ready(name)
        self._start_ready()

    def finish(self, name: str, speed: ReceiverSpeed = ReceiverSpeed.QUICK) -> None:
        """Count a started item of the receiver `name` as done, which shows its speed; others may be started."""
        receiver = self._receivers[name]
        self._in_flight -= 1
        self._slow_in_flight -= receiver.is_slow
        receiver.in_flight -= 1
        self._set_speed(name, speed)
        self._list_if_ready(name)
        self._start_ready()

    def waiting(self, name: str) -> int:
        """Return how many items wait for this receiver."""
        receiver = self._receivers.get(name)
        return len(receiver.waiting) if receiver else 0

    def is_slow(self, name: str) -> bool:
        """Return whether this receiver was slow at its last try."""
        receiver = self._receivers.get(name)
        return receiver is not None and receiver.is_slow

    def slow(self) -> list[str]:
        """Return the receivers that were slow, or failed, at their last try."""
        return [name for name, receiver in self._receivers.items() if receiver.is_slow]

    def quick(self) -> set[str]:
        """Return the receivers that were quick at their last try."""
        return {name for name, one in self._receivers.items() if one.speed is ReceiverSpeed.QUICK}

    def is_quick(self, name: str) -> bool:
        """Return whether this receiver was quick at its last try."""
        receiver = self._receivers.get(name)
        return receiver is not None and receiver.speed is ReceiverSpeed.QUICK

    def take_back(self, name: str, all_but: int = SLOW_WAITING) -> list[Item]:
        """Remove and return the items that wait for this receiver, but for so many that are sent next."""
        receiver = self._receivers.get(name)
        return receiver.waiting.cut(all_but) if receiver else []

    def take_back_longest(self) -> list[Item]:
        """Remove and return all items that wait for slow receivers; if none do, those of the longest queue."""
        waiting = [receiver for receiver in self._receivers.values() if receiver.waiting]
        slow = [receiver for receiver in waiting if receiver.is_slow]
        longest = sorted(waiting, key=lambda receiver: len(receiver.waiting))[-1:]
        return [item for receiver in slow or longest for item in receiver.waiting.cut(0)]

    def take_back_all(self) -> list[Item]:
        """Remove and return all items that wait."""
        return [item for receiver in self._receivers.values() for item in receiver.waiting.cut(0)]

    def _set_speed(self, name: str, speed: ReceiverSpeed) -> None:
        receiver = self._receivers[name]
        if receiver.speed is speed:
            return
        if receiver.is_ready:
            (self._slow_ready if receiver.is_slow else self._ready).remove(name)
            receiver.is_ready = False
        self._slow_in_flight += receiver.in_flight * ((speed is ReceiverSpeed.SLOW) - receiver.is_slow)
        receiver.speed, receiver.most = speed, self._per_receiver[speed]
        receiver.is_slow = speed is ReceiverSpeed.SLOW

    def _list_if_ready(self, name: str) -> None:
        receiver = self._receivers[name]
        if receiver.waiting and receiver.in_flight < receiver.most and not receiver.is_ready:
            receiver.is_ready = True
            (self._slow_ready if receiver.is_slow else self._ready).append(name)

    def _start_ready(self) -> None:
        while ready := self._next_ready():
            name = ready.popleft()
            receiver = self._receivers[name]
            receiver.is_ready = False
            if receiver.waiting:
                self._in_flight += 1
                self._slow_in_flight += receiver.is_slow
                receiver.in_flight += 1
                self._start(name, receiver.waiting.take())
            self._list_if_ready(name)

    def _next_ready(self) -> deque[str] | None:
        if self._in_flight >= self._total:
            return None
        if self._slow_ready and self._slow_in_flight < self._slow_total:
            return self._slow_ready
        return self._ready
