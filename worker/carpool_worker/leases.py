"""Leases in Redis: they keep two workers from doing the same work at once.

Only thrift rests on them. What must not happen twice is guarded in SQL, so a lease that ends too early does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import redis
from redis.exceptions import LockError


@contextmanager
def lease(server: redis.Redis, name: str, seconds: float) -> Iterator[Callable[[], None] | None]:
    """Hold a lease while the block runs: yields a function that renews it, or None where another holds it."""
    lock = server.lock(f"carpool:lease:{name}", timeout=seconds)
    if not lock.acquire(blocking=False):
        yield None
        return

    def renew() -> None:
        with suppress(LockError):
            lock.reacquire()

    try:
        yield renew
    finally:
        with suppress(LockError):
            lock.release()
