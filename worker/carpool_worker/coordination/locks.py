"""Locks in Redis: they keep two workers from doing the same work at once.

Locks only save work. What must not happen twice is guarded in SQL, so a lock that expires too early does no harm.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from socket import gethostname
from threading import Event, Thread

import redis
from redis.exceptions import LockError, RedisError
from redis.lock import Lock

from carpool_worker.coordination.keys import LOCK, queue

LOCK_SECONDS = 9.0
"""A killed process blocks its work for this long; a live one renews its locks in time."""

SLOW_AGENTS = frozenset(map(queue, ("submit", "collect", "deliver")))
"""Queues of the agents whose tasks may take minutes. Each may have a share of a worker's processes, its slots."""

DOING_NOTHING_ELSE = frozenset(map(queue, ("submit", "collect")))
"""Those whose queues have no other tasks: a worker of only one of them needs to keep no process free."""


@contextmanager
def lock(server: redis.Redis, name: str) -> Iterator[bool]:
    """Take a lock while the block runs; yield False, without waiting, if another process has it."""
    with _first_free(server, [name]) as acquired:
        yield acquired


def slots(queues: Collection[str], processes: int) -> int:
    """Return how many of a worker's processes each slow agent may occupy, so that some are left for the others."""
    slow = SLOW_AGENTS.intersection(queues)
    if slow and len(queues) == 1 and slow <= DOING_NOTHING_ELSE:
        return processes
    return max(1, (processes - 1) // max(1, len(slow)))


@contextmanager
def slot(server: redis.Redis, agent: str, slots: int) -> Iterator[bool]:
    """Take one of this worker's slots for an agent while the block runs; yield False if all are taken."""
    worker = f"{gethostname()}:{os.getppid()}"
    with _first_free(server, [f"{agent}:{worker}:{n}" for n in range(slots)]) as acquired:
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
