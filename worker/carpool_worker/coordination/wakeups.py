"""What wakes beat between its ticks: alarms that tasks set, and what producers put into Redis.

Beat's ticks alone drive everything on, at their intervals. A wake-up only makes it sooner: it may be lost, come twice
or come for nothing. So a task is sent when there is work for it, within milliseconds, and not every second in case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from time import monotonic
from typing import Any, NamedTuple

import redis
from redis.exceptions import ResponseError

from carpool.contract import WAITS
from carpool.quotas import ALARMS
from carpool_worker.coordination.backlog import Queues
from carpool_worker.coordination.keys import GROUP, LOCK, queue
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import SECOND

log = get_logger(__name__)

ALARMS_KEPT = 1_000
"""Beat reads an alarm within a second; without a beat no more than these are kept."""

LOOK_SECONDS = 0.1
"""Between two looks at an inbox whose requests an aggregator is about to read, or is reading."""

LONGEST_LOOK_SECONDS = 1.0
"""The same after some looks between which nothing was read: the database may be away."""

NOTHING_READ = b"0-0"
"""The id before that of the first entry."""


class WakeUp(NamedTuple):
    """A task that should be sent, and in how many seconds."""

    task: str
    seconds: float


def set_alarm(server: redis.Redis, task: str, seconds: float) -> None:
    """Have beat send `carpool.{task}` in so many seconds, if its next tick comes later; its tick alone comes anyway."""
    milliseconds = max(0, round(seconds * SECOND) + 1)  # late rather than early: then what it is for is due
    server.xadd(ALARMS, {"task": task, "ms": milliseconds}, maxlen=ALARMS_KEPT, approximate=True)


class WakeUps:
    """Beat's view of Redis. It keeps only its place among the alarms, and how often to look at the inbox.

    `inbox` has, by the name of each stream of the inbox, the lease of the aggregator that reads it.
    """

    def __init__(self, server: redis.Redis, queues: Queues, inbox: Mapping[str, str]) -> None:
        self._server = server
        self._queues = queues
        self._inbox = inbox
        self._heard: Any = None  # the id of the last alarm
        self._looks_at = 0.0
        self._pause = LOOK_SECONDS
        self._found_at: dict[str, Any] = {}  # what had been read when requests were found last

    def forget(self) -> None:
        """Begin with the next alarm; what was heard of one Redis means nothing to another in its place."""
        self._heard = None

    def wait(self, seconds: float) -> Iterator[WakeUp]:
        """Wait until something happens, so many seconds at most, and yield what should be sent.

        Raises:
            redis.RedisError, kombu.exceptions.OperationalError: Redis or Celery's broker is away.
        """
        if self._heard is None:
            newest: Any = self._server.xrevrange(ALARMS, count=1)
            self._heard = newest[0][0] if newest else NOTHING_READ
        if int(self._server.llen(WAITS)):
            yield WakeUp("reply", 0.0)
        after = self._read_until() if self._looks_at <= monotonic() else {}
        if self._looks_at > monotonic():
            seconds = min(seconds, max(0.0, self._looks_at - monotonic()))
        streams: dict[Any, Any] = {ALARMS: self._heard} | after
        block = max(1, round(seconds * SECOND))
        answer = self._server.xread(streams, count=1, block=block)
        for name, entries in _streams(answer):
            if name == ALARMS.encode():
                yield from self._alarms(entries)
            elif after:
                self._look_later(after)
                after = {}  # once is enough, however many streams have entries
                yield WakeUp("aggregate", 0.0)

    def _read_until(self) -> dict[str, Any]:
        """Return, by stream, the id of the last entry that an aggregator has read; not where one is reading now.

        Nothing at all while one is about to, as it looks at all streams.
        """
        if self._queues.unread(queue("aggregate")):
            self._looks_at = monotonic() + LOOK_SECONDS
            return {}
        with self._server.pipeline(transaction=False) as pipeline:
            for stream, lease in self._inbox.items():
                pipeline.exists(LOCK + lease)
                pipeline.xinfo_groups(stream)
            replies = pipeline.execute(raise_on_error=False)
        after = {}
        for stream, reading, groups in zip(self._inbox, replies[::2], replies[1::2], strict=True):
            if isinstance(reading, Exception):
                raise reading
            if reading:
                self._looks_at = monotonic() + LOOK_SECONDS
            else:
                after[stream] = _last_read(groups)
        return after

    def _look_later(self, after: dict[str, Any]) -> None:
        """Leave the aggregator some time; ever more while it reads nothing."""
        stuck = after == self._found_at
        self._pause = min(LONGEST_LOOK_SECONDS, self._pause * 2) if stuck else LOOK_SECONDS
        self._found_at = after
        self._looks_at = monotonic() + self._pause

    def _alarms(self, entries: list[Any]) -> Iterator[WakeUp]:
        for entry_id, fields in entries:
            self._heard = entry_id
            try:
                yield WakeUp(fields[b"task"].decode(), int(fields[b"ms"]) / SECOND)
            except (KeyError, ValueError):
                log.warning("unreadable alarm dropped", bytes=sum(map(len, fields.values())))


def _last_read(groups: Any) -> Any:
    if isinstance(groups, ResponseError):  # there is no such stream yet
        return NOTHING_READ
    if isinstance(groups, Exception):
        raise groups
    return next((one["last-delivered-id"] for one in groups if one["name"] == GROUP.encode()), NOTHING_READ)


def _streams(answer: Any) -> list[tuple[bytes, list[Any]]]:
    # RESP3 replies with a mapping, RESP2 with a list of pairs.
    if isinstance(answer, dict):
        return [(name, entry) for name, entries in answer.items() for entry in entries]
    return list(answer or [])
