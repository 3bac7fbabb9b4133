"""The Celery task that makes calls in real time. Beat sends it, and so does whoever puts requests into their queue."""

from __future__ import annotations

from carpool_worker.app import app
from carpool_worker.coordination.connections import call_bucket, messages, server
from carpool_worker.coordination.locks import slot
from carpool_worker.database import engine
from carpool_worker.pipeline.submission import fallback
from carpool_worker.pipeline.submission.fallback import Callers
from carpool_worker.settings import settings
from carpool_worker.tasks import alarms, followups
from carpool_worker.tasks.task_class import CarpoolTask

CALLING = 1
"""Processes of a worker that make calls in real time: each makes many at once."""


@app.task(name="carpool.call", base=CarpoolTask)
def call() -> None:
    """Make the calls in real time that are due; a worker that was asked to end begins no more."""
    with slot(server(), "call", CALLING) as free:
        if not free:
            return
        followups.begin()
        callers = Callers(messages, call_bucket)
        fallback.call_due(
            engine(), callers, settings().real_time_policy, followups.announce, app.conf.is_ending
        )
    alarms.wake_to_call()
