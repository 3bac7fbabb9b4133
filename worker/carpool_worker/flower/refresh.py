"""Publishes the batches again when Flower starts or reconnects to Redis, as events are not kept for it.

When Flower subscribes, it asks every worker for a heartbeat: that is when it needs what it has missed. If no worker was
there to be asked, the first one to connect to Redis has the batches published.
"""

from __future__ import annotations

from typing import Any

import redis
from celery import bootsteps
from celery.worker import control
from celery.worker.consumer.control import Control

from carpool_worker.app import app
from carpool_worker.coordination.broker_urls import VISIBILITY_TIMEOUT
from carpool_worker.coordination.keys import FLOWER_REFRESH, queue
from carpool_worker.settings import settings

SUBSCRIBES_WITHIN = 2.0
"""Seconds after its request for a heartbeat by which Flower has subscribed to the events."""

celery_heartbeat = control.heartbeat


@control.control_command(name="heartbeat")  # type: ignore[untyped-decorator]
def heartbeat(panel: Any) -> None:
    """Send a heartbeat immediately, and have the batches published for the Flower that asked."""
    celery_heartbeat(panel)
    panel.consumer.timer.call_after(SUBSCRIBES_WITHIN, request_refresh)


class RefreshOnConnect(bootsteps.StartStopStep):  # type: ignore[misc]
    """Has the batches published whenever a worker has connected to Redis, for the first time or again."""

    requires = (Control,)

    def start(self, consumer: Any) -> None:
        """Request it once the connection is up."""
        consumer.timer.call_after(SUBSCRIBES_WITHIN, request_refresh)


def request_refresh() -> None:
    """Have the newest batches published; all workers request this at the same time, and it is done once."""
    with settings().redis() as server:
        if server.set(FLOWER_REFRESH, 1, nx=True, ex=VISIBILITY_TIMEOUT):
            app.send_task("carpool.show", queue=queue("poll"))


def take_request(server: redis.Redis) -> bool:
    """Return whether a refresh was requested; True for the first caller alone."""
    return server.getdel(FLOWER_REFRESH) is not None


app.steps["consumer"].add(RefreshOnConnect)
