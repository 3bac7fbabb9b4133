"""Locks in Redis: they keep two workers from doing the same work at once.

Locks only save work. What must not happen twice is guarded in SQL, so a lock that expires too early does no harm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from socket import gethostname
from threading import Event, Thread

import redis
from redis.exceptions import LockError, RedisError
from redis.lock import Lock

from carpool_worker.coordination.keys import LOCK

LOCK_SECONDS = 9.0
"""A killed process blocks its work for this long; a live one renews its locks in time."""

SLOTS = 2
"""How many of a host's processes may do one kind of long work at once, so that some are left for the others."""


@contextmanager
def lock(server: redis.Redis, name: str) -> Iterator[bool]:
    """Take a lock while the block runs; yield False, without waiting, if another process has it."""
    with _first_free(server, [name]) as acquired:
        yield acquired


@contextmanager
def slot(server: redis.Redis, agent: str) -> Iterator[bool]:
    """Take one of this host's slots for an agent while the block runs; yield False if all are taken."""
    with _first_free(server, [f"{agent}:{gethostname()}:{n}" for n in range(SLOTS)]) as acquired:
        yield acquired


def is_locked(server: redis.Redis, name: str) -> bool:
    """Return whether some process has this lock now."""
    return bool(server.exists(LOCK + name))


@contextmanager
def _first_free(server: redis.Redis, names: Sequence[str]) -> Iterator[bool]:
    free = next(filter(None, (_acquired(server, name) for name in names)), None)
    if free is None:
        yield False
        return
    over = Event()
    renewing = Thread(target=_renew, args=(free, over), daemon=True)
    renewing.start()
    try:
        yield True
    finally:
        over.set()
        renewing.join()
        with suppress(LockError):
            free.release()


def _acquired(server: redis.Redis, name: str) -> Lock | None:
    one = server.lock(LOCK + name, timeout=LOCK_SECONDS, thread_local=False)
    return one if one.acquire(blocking=False) else None


def _renew(one: Lock, over: Event) -> None:
    while not over.wait(LOCK_SECONDS / 3):
        with suppress(LockError, RedisError):
            one.reacquire()
