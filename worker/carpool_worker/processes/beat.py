"""Beat's scheduler. It keeps no state, and sends no tick to a queue that has too many unread messages.

Otherwise messages would pile up in Redis while no worker runs. They don't expire instead, because a worker whose clock
is ahead of beat's would discard every one of them, forever.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

import redis
from celery.beat import ScheduleEntry, Scheduler, SchedulingError
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from carpool_worker.coordination import heartbeat
from carpool_worker.coordination.backlog import is_behind
from carpool_worker.settings import settings
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)


class BeatScheduler(Scheduler):  # type: ignore[misc]
    """Sends the ticks of the beat schedule."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._server = redis.Redis.from_url(settings().redis_url)
        self._due: dict[str, float] = {}
        self._redis_is_away = False
        super().__init__(*args, **kwargs)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due, and return the seconds until something is due again.

        It goes by the monotonic clock: Celery's own scheduler goes by the time of day, and when that is set back by an
        hour, it falls silent for an hour.
        """
        for entry in self.schedule.values():
            if self._due.get(entry.name, 0.0) <= monotonic():
                self._due[entry.name] = monotonic() + entry.schedule.seconds
                self.apply_entry(entry, producer=self.producer)
        return max(0.0, min(self._due.values()) - monotonic())

    def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:
        """Send one tick unless its queue is behind; an outage of Redis is logged when it begins and when it ends."""
        try:
            if not is_behind(self._server, entry.options["queue"]):
                self.apply_async(entry, producer=producer, advance=False)
            heartbeat.record(self._server)
        except (RedisError, OperationalError, SchedulingError) as error:
            if not self._redis_is_away:
                log.warning("ticks paused, Redis is away", error=str(error))
            self._redis_is_away = True
            return
        if self._redis_is_away:
            log.warning("ticks resumed")
        self._redis_is_away = False
