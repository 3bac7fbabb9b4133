"""Leases in Redis: they keep two workers from doing the same work at once.

Only thrift rests on them. What must not happen twice is guarded in SQL, so a lease that ends too early does no harm.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

import redis
from redis.exceptions import LockError, RedisError
from redis.lock import Lock

LEASE_SECONDS = 9.0
"""How long the work of a killed process stays undone; a living one renews its lease in time."""


@contextmanager
def lease(server: redis.Redis, name: str) -> Iterator[bool]:
    """Hold a lease while the block runs; yields False where another holds it."""
    lock = server.lock(f"carpool:lease:{name}", timeout=LEASE_SECONDS, thread_local=False)
    if not lock.acquire(blocking=False):
        yield False
        return
    over = Event()
    renewing = Thread(target=_renew, args=(lock, over), daemon=True)
    renewing.start()
    try:
        yield True
    finally:
        over.set()
        renewing.join()
        with suppress(LockError):
            lock.release()


def _renew(lock: Lock, over: Event) -> None:
    while not over.wait(LEASE_SECONDS / 3):
        with suppress(LockError, RedisError):
            lock.reacquire()
