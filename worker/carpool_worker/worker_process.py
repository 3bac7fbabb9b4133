"""The Celery worker as `carpool worker` runs it: its children end when it does, even when it is killed outright."""

from __future__ import annotations

import logging
import signal

from celery.signals import worker_process_init

from carpool_worker import tasks  # noqa: F401  (registers them)
from carpool_worker.app import app
from carpool_worker.end_with_parent import end_with_parent

TALKATIVE_LOGGERS = ("celery.worker.strategy", "celery.worker.request", "celery.app.trace", "httpx2")
"""They log each task twice and each call of the API, and beat sends three a second; failures are still logged."""


def run(queues: str, concurrency: int) -> None:
    """Work on `queues` (comma-separated) with `concurrency` processes, until SIGTERM or SIGINT."""
    worker_process_init.connect(_leave_nothing_behind)
    for name in TALKATIVE_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    app.worker_main(["worker", f"--queues={queues}", f"--concurrency={concurrency}", "--loglevel=INFO"])


def _leave_nothing_behind(**_: object) -> None:
    end_with_parent(signal.SIGKILL)  # a child whose parent is gone can't report; its task is run again
