"""Another team's Celery app on the same Redis database: `celery --app tests.chaos.foreign_app worker`."""

from __future__ import annotations

import os
import time

import celery
import redis

URL = "CARPOOL_REDIS_URL"
"""The variable that says where the broker is."""

LONG = "foreign.long"
BEGUN = "foreign:begun"
"""List: the numbers of the tasks that have begun, each as often as it has."""

UNACKED_INDEX = "unacked_index"
"""Sorted set of kombu's Redis transport: messages that workers have taken and not acknowledged, by when they did."""

TASK_SECONDS = 20.0
NEVER = 10 * 86_400
"""Seconds: this app itself hands no task out again."""


def connected(url: str) -> celery.Celery:
    """Return the app with the broker at `url`."""
    made = celery.Celery("foreign", broker=url)
    made.conf.update(
        task_acks_late=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
        broker_transport_options={"visibility_timeout": NEVER},
    )
    return made


app = connected(os.environ.get(URL, ""))


@app.task(name=LONG)  # type: ignore[untyped-decorator]
def long(number: int) -> None:
    """Run for long."""
    with redis.Redis.from_url(os.environ[URL]) as server:
        server.rpush(BEGUN, number)
    time.sleep(TASK_SECONDS)
