"""What pages read, kept for some seconds: any number of lookers costs the database as much as one."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from time import monotonic
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

MOST_KEPT = 500
"""Readings that are kept: of each page with each of its filters one."""

PATIENCE_SECONDS = 0.1
"""How long a page waits for what takes long to read; then it says that it is being read."""

LONG_AGO = float("-inf")
"""When something was read that may have changed since."""


class _Reading(NamedTuple):
    """What was read, and when; while it is being read, the task."""

    at: float  # by the monotonic clock
    task: asyncio.Task[Any]


class _KnownReading(NamedTuple):
    """What was read last, and when."""

    at: float  # by the monotonic clock
    value: Any


class PageCache:
    """Readings by what they are of. It belongs to one event loop."""

    def __init__(self) -> None:
        self._readings: OrderedDict[Hashable, _Reading] = OrderedDict()
        self._known: dict[Hashable, _KnownReading] = {}
        self._refreshing: dict[Hashable, asyncio.Task[Any]] = {}
        self._acts = 0  # that may have changed what was read before

    async def get(self, key: Hashable, seconds: float, ask: Callable[[], Awaitable[T]]) -> T:
        """Return what `ask` returned at most so long ago; who asks meanwhile waits for the same answer."""
        reading = self._readings.get(key)
        if reading is None or _is_over(reading, seconds):
            reading = _Reading(monotonic(), asyncio.ensure_future(_run(ask)))
            self._readings[key] = reading
            if len(self._readings) > MOST_KEPT:
                self._readings.popitem(last=False)
        self._readings.move_to_end(key)
        found: T = await asyncio.shield(reading.task)  # others wait for it, too
        return found

    async def soon(self, key: Hashable, seconds: float, ask: Callable[[], Awaitable[T]]) -> T:
        """Return what is known, and read it anew meanwhile if it is older; only the first one who asks waits.

        For what takes long to read, such as what workers answer. What is known stays so after an act, too.
        """
        known, task = self._known.get(key), self._refreshing.get(key)
        if task is None and (known is None or monotonic() - known.at >= seconds):
            task = self._refreshing[key] = asyncio.ensure_future(self._refresh(key, ask))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        if known is not None:
            value: T = known.value
            return value
        if task is None:
            raise RuntimeError("nothing is known, and nobody reads it")
        found: T = await asyncio.shield(task)
        return found

    async def at_once(self, key: Hashable, seconds: float, ask: Callable[[], Awaitable[T]]) -> T | None:
        """Return the same, but None while nothing is known: nobody waits longer than PATIENCE_SECONDS."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await self.soon(key, seconds, ask)
        except TimeoutError:
            return None

    async def _refresh(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        acts = self._acts
        try:
            found = await ask()
            self._known[key] = _KnownReading(monotonic() if acts == self._acts else LONG_AGO, found)
            return found
        finally:
            self._refreshing.pop(key, None)

    async def close(self) -> None:
        """Wait for what is being read."""
        tasks = [*self._refreshing.values(), *(one.task for one in self._readings.values())]
        await asyncio.gather(*tasks, return_exceptions=True)

    def forget(self) -> None:
        """Read everything again when it is asked for next: something was done.

        What takes long is shown as it was until it has been read again.
        """
        self._acts += 1
        self._readings.clear()
        self._known = {key: one._replace(at=LONG_AGO) for key, one in self._known.items()}


def _is_over(reading: _Reading, seconds: float) -> bool:
    if not reading.task.done():
        return False
    return reading.task.cancelled() or bool(reading.task.exception()) or monotonic() - reading.at >= seconds


async def _run(ask: Callable[[], Awaitable[T]]) -> T:
    return await ask()
