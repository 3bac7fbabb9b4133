"""Has the batches shown to a monitor that begins to listen, as Flower does when it starts or finds Redis again.

Events are kept for nobody. But a monitor that begins to listen asks every worker for a heartbeat, and that is the
moment at which it needs all that it has missed. A worker that was not there to be asked shows them when it comes.
"""

from __future__ import annotations

from typing import Any

import redis
from celery import bootsteps
from celery.worker import control
from celery.worker.consumer.control import Control

from carpool_worker.app import VISIBILITY_TIMEOUT, app
from carpool_worker.coordination.keys import FLOWER_REFRESH, queue
from carpool_worker.settings import settings

LISTENS_WITHIN = 2.0
"""Seconds after its request for a heartbeat by which a monitor has subscribed to the events."""

celery_heartbeat = control.heartbeat


@control.control_command(name="heartbeat")  # type: ignore[untyped-decorator]
def heartbeat(panel: Any) -> None:
    """Send a heartbeat at once, and have the batches shown to the monitor that asked for it."""
    celery_heartbeat(panel)
    panel.consumer.timer.call_after(LISTENS_WITHIN, ask)


class Arrival(bootsteps.StartStopStep):  # type: ignore[misc]
    """A worker that has connected to Redis, for the first time or again, has the batches shown."""

    requires = (Control,)

    def start(self, consumer: Any) -> None:
        """Ask once the connection stands."""
        consumer.timer.call_after(LISTENS_WITHIN, ask)


def ask() -> None:
    """Have the batches shown; all workers ask at once, and what was asked for is done once."""
    with redis.Redis.from_url(settings().redis_url) as server:
        if server.set(FLOWER_REFRESH, 1, nx=True, ex=VISIBILITY_TIMEOUT):
            app.send_task("carpool.show", queue=queue("poll"))


def is_asked_for(server: redis.Redis) -> bool:
    """Tell whether the batches are to be shown, to the first who asks."""
    return server.getdel(FLOWER_REFRESH) is not None


app.steps["consumer"].add(Arrival)
