"""Room for task callbacks: a queue that its service does not read gets only so many messages, and not all of Redis.

Whatever else the broker holds, the inbox included, stops once its memory is full. So the courier looks before it sends,
with one script for a group of messages, and what finds no room stays in the database until there is some.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from time import monotonic
from typing import Any, NamedTuple

import redis

from carpool_worker.coordination.memory import ANSWERS_SHARE, KEY_SHARE, MEMORY_FUNCTIONS
from carpool_worker.formatting import counted

GROUP_MESSAGES = 100
GROUP_BYTES = 4_000_000
GROUP_SECONDS = 0.2
"""What may be sent to a queue after one look: several couriers may look at the same moment, so it is little."""

FAILED_SECONDS = 1.0
"""After a look that failed, how long nobody else tries."""

LOOK_SCRIPT = MEMORY_FUNCTIONS + "return {redis.call('LLEN', KEYS[1]), size_of(KEYS[1]), memory()}"
"""KEYS: a queue. Returns its messages and bytes, the bytes that Redis has in use, and the most that it may use."""

MEMORY_FULL = "not sent yet: Redis has less than a fifth of its memory left"


class QueueState(NamedTuple):
    """A queue and its broker; 0 where nothing is known."""

    messages: int
    size: int = 0  # bytes
    used: int = 0  # bytes of memory, in all
    most: int = 0  # bytes of memory that may be in use


class Room(NamedTuple):
    """What may be sent to a queue now; `reason` says why it is not more."""

    messages: int
    size: int  # bytes
    reason: str


def room(queue: str, state: QueueState, limit: int) -> Room:
    """Return the room in a queue that may hold `limit` messages. Pure.

    An empty queue may take a message of any size that its broker has memory for.
    """
    too_many = f"not sent yet: the queue {queue} has {counted(limit, 'unread message')} (task_queue_limit)"
    if not state.most:
        return Room(max(0, limit - state.messages), sys.maxsize, too_many)
    left = int(ANSWERS_SHARE * state.most) - state.used
    own = int(KEY_SHARE * state.most) - state.size if state.messages else left
    too_large = f"not sent yet: the queue {queue} has a tenth of Redis' memory"
    scarce = too_large if own < left else MEMORY_FULL
    reason = too_many if state.messages >= limit else scarce
    return Room(max(0, limit - state.messages), max(0, min(left, own)), reason)


class Rooms:
    """The room that a courier's threads have in each queue, looked at again once it is used up, or old."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = Lock()
        self._looked: dict[str, tuple[float, Room]] = {}
        self._in_flight: Counter[str] = Counter()  # messages by queue that may, or may not, be in it already
        self._failure: tuple[float, Exception] | None = None

    @contextmanager
    def place(self, queue: str, size: int, look: Callable[[str], QueueState]) -> Iterator[str | None]:
        """Keep a place for one message of `size` bytes while the block sends it; yield None, or why there is none.

        It calls `look` where too little is known, one thread at a time, and raises what that raises.
        """
        with self._lock:
            refusal = None if self._take(queue, size) else self._look(queue, size, look)
            self._in_flight[queue] += refusal is None
        try:
            yield refusal
        finally:
            with self._lock:
                self._in_flight[queue] -= refusal is None

    def _look(self, queue: str, size: int, look: Callable[[str], QueueState]) -> str | None:
        if self._failure and monotonic() < self._failure[0]:
            raise self._failure[1]  # the others don't wait as long for the same
        try:
            state = look(queue)
        except Exception as error:
            self._failure = monotonic() + FAILED_SECONDS, error
            raise
        sent = state._replace(messages=state.messages + self._in_flight[queue])
        found = room(queue, sent, self._limit)
        size_left = min(found.size, max(size, GROUP_BYTES))
        group = Room(min(found.messages, GROUP_MESSAGES), size_left, found.reason)
        self._looked[queue] = (monotonic() + GROUP_SECONDS, group)
        return None if self._take(queue, size) else found.reason

    def _take(self, queue: str, size: int) -> bool:
        until, left = self._looked.get(queue, (0.0, Room(0, 0, "")))
        if monotonic() > until or not left.messages or left.size < size:
            return False
        self._looked[queue] = (until, Room(left.messages - 1, left.size - size, left.reason))
        return True


def look(server: redis.Redis, queue: str) -> QueueState:
    """Ask Redis for the state of a queue; raises redis.RedisError."""
    reply: Any = server.register_script(LOOK_SCRIPT)(keys=[queue])
    return QueueState._make(map(int, reply))
