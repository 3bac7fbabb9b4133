"""Turns: how many deliveries go out at a time, in all and to one receiver. It does no input or output.

Receivers take turns, so that a slow one with a thousand deliveries leaves the others their share. One that hangs is
known only when its time is up, so nobody gets many at a time before its first answer; those known as slow share a
small part of the whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Generic, TypeVar

FIRST = 2
"""Deliveries out at a time to a receiver of which nothing has come back yet."""

SLOW_SHARE = 10
"""All slow receivers together get one of so many places, and each of them one at a time."""

SLOW_WAITING = 10
"""Deliveries that wait for one slow receiver; there is no use in holding more."""

Item = TypeVar("Item")


class Pace(Enum):
    """How a receiver did at its last try."""

    UNKNOWN = auto()
    QUICK = auto()
    SLOW = auto()


class Lane(Generic[Item]):
    """The deliveries to one receiver: those that wait, and how many are out."""

    def __init__(self) -> None:
        self.waiting: deque[Item] = deque()
        self.out = 0
        self.queued = False
        self.pace = Pace.UNKNOWN

    @property
    def is_slow(self) -> bool:
        """Whether it is one of those that share a small part of the whole."""
        return self.pace is Pace.SLOW


class Turns(Generic[Item]):
    """Calls `start` for each item when its turn has come; whoever finishes one says so."""

    def __init__(self, total: int, a_lane: int, start: Callable[[str, Item], None]) -> None:
        self._total = total
        self._slow_total = max(1, total // SLOW_SHARE)
        self._a_lane = {Pace.UNKNOWN: min(FIRST, a_lane), Pace.QUICK: a_lane, Pace.SLOW: 1}
        self._start = start
        self._out = 0
        self._slow_out = 0
        self._lanes: dict[str, Lane[Item]] = {}  # kept when empty: how it did must not be forgotten
        self._ready: deque[str] = deque()
        self._slow_ready: deque[str] = deque()

    def add(self, name: str, item: Item, fails: bool = False) -> None:
        """Let an item wait in the lane `name`; it may be started at once. `fails`: it did at its last try."""
        lane = self._lanes.setdefault(name, Lane())
        if fails and lane.pace is Pace.UNKNOWN:
            self._set_pace(name, Pace.SLOW)
        lane.waiting.append(item)
        self._queue(name)
        self._go()

    def finish(self, name: str, quick: bool = True) -> None:
        """Say that a started item of the lane `name` is done; others may be started."""
        lane = self._lanes[name]
        self._out -= 1
        self._slow_out -= lane.is_slow
        lane.out -= 1
        self._set_pace(name, Pace.QUICK if quick else Pace.SLOW)
        self._queue(name)
        self._go()

    def is_clogged(self, name: str) -> bool:
        """Tell whether this lane is slow and enough waits in it."""
        lane = self._lanes.get(name)
        return lane is not None and lane.is_slow and len(lane.waiting) >= SLOW_WAITING

    def take_back_longest(self) -> list[Item]:
        """Return, and forget, all items that wait in slow lanes, or, if none do, in the lane where most wait."""
        slow = [lane for lane in self._lanes.values() if lane.is_slow and lane.waiting]
        longest = max(self._lanes.values(), key=lambda lane: len(lane.waiting), default=Lane[Item]())
        return [item for lane in slow or [longest] for item in self._take_back(lane)]

    def take_back_all(self) -> list[Item]:
        """Return, and forget, all items that wait."""
        return [item for lane in self._lanes.values() for item in self._take_back(lane)]

    def _take_back(self, lane: Lane[Item]) -> list[Item]:
        items = list(lane.waiting)
        lane.waiting.clear()
        return items

    def _set_pace(self, name: str, pace: Pace) -> None:
        lane = self._lanes[name]
        if lane.pace is pace:
            return
        if lane.queued:
            (self._slow_ready if lane.is_slow else self._ready).remove(name)
            lane.queued = False
        self._slow_out += lane.out * ((pace is Pace.SLOW) - lane.is_slow)
        lane.pace = pace

    def _queue(self, name: str) -> None:
        lane = self._lanes[name]
        if lane.waiting and lane.out < self._a_lane[lane.pace] and not lane.queued:
            lane.queued = True
            (self._slow_ready if lane.is_slow else self._ready).append(name)

    def _go(self) -> None:
        while ready := self._next_ready():
            name = ready.popleft()
            lane = self._lanes[name]
            lane.queued = False
            if lane.waiting:
                self._out += 1
                self._slow_out += lane.is_slow
                lane.out += 1
                self._start(name, lane.waiting.popleft())
            self._queue(name)

    def _next_ready(self) -> deque[str] | None:
        if self._out >= self._total:
            return None
        return self._slow_ready if self._slow_ready and self._slow_out < self._slow_total else self._ready
