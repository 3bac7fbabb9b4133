"""One timer of the event loop for all calls that wait: one for each would be memory that every held call takes."""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from itertools import count

GRID_SECONDS = 0.01
"""Times are rounded up to it, so that many come due at once."""


class SharedTimer:
    """Wakes who waits for a time. It belongs to one event loop."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, asyncio.Future[None]]] = []  # a heap, by the loop's clock
        self._numbers = count()
        self._handle: asyncio.TimerHandle | None = None

    def wake(self, future: asyncio.Future[None], seconds: float) -> None:
        """Give a future its result in so many seconds, if it has none by then."""
        loop = asyncio.get_running_loop()
        due = (loop.time() + seconds) // GRID_SECONDS * GRID_SECONDS + GRID_SECONDS
        is_first = not self._due or due < self._due[0][0]
        heappush(self._due, (due, next(self._numbers), future))
        if is_first:
            self._set()

    def _set(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        loop = asyncio.get_running_loop()
        self._handle = loop.call_at(self._due[0][0], self._wake_due) if self._due else None

    def _wake_due(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._due and self._due[0][0] <= now:
            _, _, future = heappop(self._due)
            if not future.done():
                future.set_result(None)
        self._handle = None
        self._set()
