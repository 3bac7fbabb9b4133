"""Keeps a reading for a while, so that scrapes stay cheap however many there are and however large the tables."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from time import monotonic
from typing import Generic, TypeVar, cast

FRESH_SECONDS = 5.0
"""A reading is kept for this long, at least."""

LOAD = 20.0
"""A slow reading is kept for this many times as long as it took: reading uses a twentieth of a connection, at most."""

WAIT_SECONDS = 2.0
"""How long a scrape waits for a new reading before it gets the last one; Prometheus waits 10 seconds by default."""

Reading = TypeVar("Reading")


class Cached(Generic[Reading]):
    """The last reading; of several scrapes at the same time, one reads."""

    def __init__(self, read: Callable[[], Reading], max_wait: float = WAIT_SECONDS) -> None:
        self._read = read
        self._max_wait = max_wait
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "carpool-metrics")
        self._pending: Future[tuple[Reading, float]] | None = None
        self._last: Reading | None = None
        self._stale_at = 0.0

    def get(self) -> Reading:
        """Return the last reading, or a new one if that is stale. Only the very first is waited for without limit.

        Raises: whatever reading raised.
        """
        with self._lock:
            if self._pending is None and monotonic() >= self._stale_at:
                self._pending = self._thread.submit(self._timed)
            if self._pending is not None:
                wait([self._pending], None if self._last is None else self._max_wait)
                if self._pending.done():
                    self._take(self._pending)
            return cast(Reading, self._last)

    def close(self) -> None:
        """Wait for a reading that is under way."""
        self._thread.shutdown()

    def _take(self, done: Future[tuple[Reading, float]]) -> None:
        self._pending = None
        self._last, took = done.result()
        self._stale_at = monotonic() + max(FRESH_SECONDS, took * LOAD)

    def _timed(self) -> tuple[Reading, float]:
        began = monotonic()
        reading = self._read()
        return reading, monotonic() - began
