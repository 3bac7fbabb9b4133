"""The base class of Carpool's Celery tasks: each may be lost or run twice, and its arguments stay hidden."""

from __future__ import annotations

from contextlib import suppress
from time import monotonic
from typing import Any

import sqlalchemy as sa
from celery import Task
from celery.worker.request import Request
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError

from carpool_worker.app import RETRY_SECONDS
from carpool_worker.coordination.connections import server
from carpool_worker.coordination.wakeups import set_alarm
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)

AWAY = (
    sa.exc.OperationalError,
    sa.exc.InterfaceError,
    sa.exc.InternalError,  # PostgreSQL: read-only, after a failover
    RedisError,
    BrokerError,
    OSError,
)
"""Raised while the database, Redis or the disk is unreachable, refuses to write, or is full."""

LOG_SECONDS = 60.0
"""Between log lines of a process that a task can't work."""


class RedactedRequest(Request):  # type: ignore[misc]
    """A task that a worker has received. It hides its arguments when the worker is inspected, as Flower does."""

    def info(self, safe: bool = False) -> dict[str, Any]:
        """Return what an inspection gets: no arguments, as those of `carpool.enqueue` are prompts."""
        return {**super().info(safe), "args": "", "kwargs": ""}


class CarpoolTask(Task):  # type: ignore[misc]
    """A task that may be lost or run twice; Flower shows batches, not ticks."""

    abstract = True
    send_events = False
    Request = RedactedRequest

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task; if the database or Redis is away, log that, and have the work done again in a second."""
        try:
            return super().__call__(*args, **kwargs)
        except AWAY as error:
            _log_outage(self.name, error)
            _try_again_soon(self.name)
            return None


def _log_outage(task: str, error: Exception) -> None:
    if monotonic() < _logged_at.get(task, -LOG_SECONDS) + LOG_SECONDS:
        return
    _logged_at[task] = monotonic()
    reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    log.warning("task failed, retried at its next tick", task=task, error=reason)


def _try_again_soon(task: str) -> None:
    # Of a task with arguments the stager finds the work; if Redis is away, beat's tick finds it.
    with suppress(RedisError, OSError):
        for name in {task.removeprefix("carpool."), "stage"}:
            set_alarm(server(), name, RETRY_SECONDS)


_logged_at: dict[str, float] = {}
