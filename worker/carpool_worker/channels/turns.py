"""Turns: how many deliveries go out at a time, in all and to one receiver. It does no input or output.

Receivers take turns, so that a slow one with a thousand deliveries leaves the others their share.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Lane(Generic[Item]):
    """The deliveries to one receiver: those that wait, and how many are out."""

    def __init__(self) -> None:
        self.waiting: deque[Item] = deque()
        self.out = 0
        self.queued = False


class Turns(Generic[Item]):
    """Calls `start` for each item when its turn has come; whoever finishes one says so."""

    def __init__(self, total: int, a_lane: int, start: Callable[[str, Item], None]) -> None:
        self._total = total
        self._a_lane = a_lane
        self._start = start
        self._out = 0
        self._lanes: dict[str, Lane[Item]] = {}
        self._ready: deque[str] = deque()

    def add(self, name: str, item: Item) -> None:
        """Let an item wait in the lane `name`; it may be started at once."""
        self._lanes.setdefault(name, Lane()).waiting.append(item)
        self._queue(name)
        self._go()

    def finish(self, name: str) -> None:
        """Say that a started item of the lane `name` is done; others may be started."""
        self._out -= 1
        self._lanes[name].out -= 1
        self._queue(name)
        self._go()

    def take_back_longest(self) -> list[Item]:
        """Return, and forget, all items that wait in the lane where most do."""
        longest = max(self._lanes.values(), key=lambda lane: len(lane.waiting), default=Lane[Item]())
        return self._take_back(longest)

    def take_back_all(self) -> list[Item]:
        """Return, and forget, all items that wait."""
        return [item for lane in self._lanes.values() for item in self._take_back(lane)]

    def _take_back(self, lane: Lane[Item]) -> list[Item]:
        items = list(lane.waiting)
        lane.waiting.clear()
        return items

    def _queue(self, name: str) -> None:
        lane = self._lanes[name]
        if not lane.waiting and not lane.out and not lane.queued:
            del self._lanes[name]
        elif lane.waiting and lane.out < self._a_lane and not lane.queued:
            lane.queued = True
            self._ready.append(name)

    def _go(self) -> None:
        while self._ready and self._out < self._total:
            name = self._ready.popleft()
            lane = self._lanes[name]
            lane.queued = False
            if lane.waiting:
                self._out += 1
                lane.out += 1
                self._start(name, lane.waiting.popleft())
            self._queue(name)
