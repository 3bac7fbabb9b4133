"""Leases in Redis: they keep two workers from doing the same work at once.

Only thrift rests on them. What must not happen twice is guarded in SQL, so a lease that ends too early does no harm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from socket import gethostname
from threading import Event, Thread

import redis
from redis.exceptions import LockError, RedisError
from redis.lock import Lock

LEASE_SECONDS = 9.0
"""How long the work of a killed process stays undone; a living one renews its lease in time."""


SLOTS = 2
"""How many of a host's processes may be busy with one kind of long work, so that some are left for all the others."""


@contextmanager
def lease(server: redis.Redis, name: str) -> Iterator[bool]:
    """Hold a lease while the block runs; yields False where another holds it."""
    with _first_free(server, [name]) as held:
        yield held


@contextmanager
def slot(server: redis.Redis, agent: str) -> Iterator[bool]:
    """Hold one of this host's slots for an agent while the block runs; yields False where all are taken."""
    with _first_free(server, [f"{agent}:{gethostname()}:{n}" for n in range(SLOTS)]) as held:
        yield held


@contextmanager
def _first_free(server: redis.Redis, names: Sequence[str]) -> Iterator[bool]:
    lock = next(filter(None, (_taken(server, name) for name in names)), None)
    if lock is None:
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


def _taken(server: redis.Redis, name: str) -> Lock | None:
    lock = server.lock(f"carpool:lease:{name}", timeout=LEASE_SECONDS, thread_local=False)
    return lock if lock.acquire(blocking=False) else None


def _renew(lock: Lock, over: Event) -> None:
    while not over.wait(LEASE_SECONDS / 3):
        with suppress(LockError, RedisError):
            lock.reacquire()
