"""Beat's scheduler. It keeps no state, and sends no tick to a queue that has too many unread messages.

Otherwise messages would pile up in Redis while no worker runs. They don't expire instead, because a worker whose clock
is ahead of beat's would discard every one of them, forever.

Between its ticks it waits in Redis for what there is to do, and sends a task as soon as there is work for it. Whatever
it misses there, its ticks find.
"""

from __future__ import annotations

from time import monotonic, sleep
from typing import Any

from celery.beat import ScheduleEntry, Scheduler, SchedulingError
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from carpool.quotas import QUOTAS
from carpool_worker.app import HEARTBEAT_SECONDS
from carpool_worker.coordination import heartbeat
from carpool_worker.coordination.backlog import is_behind, queues_of
from carpool_worker.coordination.wakeups import WakeUps
from carpool_worker.pipeline.inbox import shards
from carpool_worker.processes import alive
from carpool_worker.settings import settings
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)

RECOUNT = "carpool.recount"


class BeatScheduler(Scheduler):  # type: ignore[misc]
    """Sends the ticks of the beat schedule, and sooner what there is work for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._server = settings().redis()
        self._queues = queues_of(settings().broker, settings().key_prefix)
        leases = {shard.inbox: shard.lease for shard in shards.SHARDS}
        self._wake_ups = WakeUps(self._server, self._queues, leases)
        self._due: dict[str, float] = {}
        self._away: set[str] = set()  # of Redis and the broker, which may be one
        super().__init__(*args, **kwargs)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due, and wait until something is, a second at most; return 0, as nothing is left to wait for."""
        self.listen(min(HEARTBEAT_SECONDS, self.send_due()))
        return 0.0

    def send_due(self) -> float:
        """Send what is due, and return the seconds until something is due again.

        It goes by the monotonic clock: Celery's own scheduler goes by the time of day, and when that is set back by an
        hour, it falls silent for an hour.
        """
        for entry in self.schedule.values():
            if self._due.get(entry.name, 0.0) <= monotonic():
                self._due[entry.name] = monotonic() + entry.schedule.seconds
                self.apply_entry(entry, producer=self.producer)
        return max(0.0, min(self._due.values()) - monotonic())

    def listen(self, seconds: float) -> None:
        """Wait so many seconds, or until something wakes beat; what that is about becomes due."""
        try:
            heartbeat.record(self._server)
            alive.touch(self.app)
            for task, delay in self._wake_ups.wait(seconds):
                name = f"carpool.{task}"
                if name in self._due:
                    self._due[name] = min(self._due[name], monotonic() + delay)
            if settings().quotas and not self._server.exists(QUOTAS):
                self._due[RECOUNT] = (
                    0.0  # Redis has lost them: nothing limits anybody until they are there again
                )
            self._log_return("redis")
        except (RedisError, OperationalError) as error:
            self._wake_ups.forget()
            self._log_outage("redis", error)
            sleep(seconds)

    def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:
        """Send one tick unless its queue is behind; an outage of Redis is logged when it begins and when it ends."""
        try:
            if not is_behind(self._queues, entry.options["queue"]):
                self.apply_async(entry, producer=producer, advance=False)
        except (RedisError, OperationalError, SchedulingError) as error:
            self._log_outage("broker", error)
        else:
            self._log_return("broker")

    def _log_outage(self, which: str, error: Exception) -> None:
        if not self._away:
            log.warning("ticks paused, Redis is away", error=str(error))
        self._away.add(which)

    def _log_return(self, which: str) -> None:
        if self._away == {which}:
            log.warning("ticks resumed")
        self._away.discard(which)
