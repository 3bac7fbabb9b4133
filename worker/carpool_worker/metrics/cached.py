"""Keeps what a look found for a while, so that scrapes cost little, however many come and however large the tables."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from time import monotonic
from typing import Generic, TypeVar, cast

FRESH = 5.0
"""Seconds that a look is kept for, at least."""

LOAD = 20.0
"""A look that took long is kept for so many times as long: looking takes a twentieth of a connection, at most."""

PATIENCE = 2.0
"""Seconds that a scrape waits for a new look before it is shown the last one; Prometheus waits 10 by default."""

Look = TypeVar("Look")


class Kept(Generic[Look]):
    """The last look; of several scrapes at once one looks."""

    def __init__(self, look: Callable[[], Look], patience: float = PATIENCE) -> None:
        self._look = look
        self._patience = patience
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "carpool-metrics")
        self._looking: Future[tuple[Look, float]] | None = None
        self._seen: Look | None = None
        self._stale_at = 0.0

    def get(self) -> Look:
        """Return the last look, or a new one where that is stale; only the first is waited for without end.

        Raises: what the look raised.
        """
        with self._lock:
            if self._looking is None and monotonic() >= self._stale_at:
                self._looking = self._thread.submit(self._timed)
            if self._looking is not None:
                wait([self._looking], None if self._seen is None else self._patience)
                if self._looking.done():
                    self._take(self._looking)
            return cast(Look, self._seen)

    def close(self) -> None:
        """Wait for a look that is under way."""
        self._thread.shutdown()

    def _take(self, looking: Future[tuple[Look, float]]) -> None:
        self._looking = None
        self._seen, took = looking.result()
        self._stale_at = monotonic() + max(FRESH, took * LOAD)

    def _timed(self) -> tuple[Look, float]:
        began = monotonic()
        seen = self._look()
        return seen, monotonic() - began
