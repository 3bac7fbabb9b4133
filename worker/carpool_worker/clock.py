"""Beat's scheduler: keeps no state, and sends no tick to a queue where ticks lie unread already.

A message in Redis does not go away when it expires, only when a worker takes it; without a worker they would pile up.
"""

from __future__ import annotations

from typing import Any

import redis
from celery.beat import ScheduleEntry, Scheduler

from carpool_worker.settings import settings

MOST_UNREAD = 100
"""Messages in a queue from which on it gets no more ticks or nudges: whoever reads these looks at all there is."""


def is_behind(server: redis.Redis, queue: str) -> bool:
    """Tell whether a queue has more messages than its workers need to be told."""
    return int(server.llen(queue)) >= MOST_UNREAD


class Clock(Scheduler):  # type: ignore[misc]
    """Sends the ticks of the beat schedule."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._server = redis.Redis.from_url(settings().redis_url)
        super().__init__(*args, **kwargs)

    def apply_async(self, entry: ScheduleEntry, *args: Any, **kwargs: Any) -> Any:
        """Send one tick, unless the last hundred wait."""
        if is_behind(self._server, entry.options["queue"]):
            return self.reserve(entry)
        return super().apply_async(entry, *args, **kwargs)
