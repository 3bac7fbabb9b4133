"""What Carpool's Celery tasks have in common: each may be lost or run twice, and shows nobody what it was given."""

from __future__ import annotations

from time import monotonic
from typing import Any

import sqlalchemy as sa
from celery import Task
from celery.worker.request import Request
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError

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
"""What is raised while the database, Redis or the disk can't be reached, refuses, or has no room."""

SILENCE = 60.0
"""Seconds until a process says again that a task can't work."""


class Unshown(Request):  # type: ignore[misc]
    """A task that the worker has in hand: who inspects the worker, as Flower does, is not shown its arguments."""

    def info(self, safe: bool = False) -> dict[str, Any]:
        """Return what is shown of it; at the Celery door the arguments are prompts."""
        return {**super().info(safe), "args": "", "kwargs": ""}


class Nudge(Task):  # type: ignore[misc]
    """A task that may be lost or run twice; Flower shows batches, not ticks."""

    abstract = True
    send_events = False
    Request = Unshown

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run; a database or a Redis that is away costs a line in the log, and the next tick tries again."""
        try:
            return super().__call__(*args, **kwargs)
        except AWAY as error:
            _complain(self.name, error)
            return None


def _complain(task: str, error: Exception) -> None:
    if monotonic() < _complained.get(task, -SILENCE) + SILENCE:
        return
    _complained[task] = monotonic()
    reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    log.warning("task failed, retried at its next tick", task=task, error=reason)


_complained: dict[str, float] = {}
