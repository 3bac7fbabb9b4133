"""The door for services that know only Celery: a task that puts its request into the inbox."""

from __future__ import annotations

from collections.abc import Mapping
from time import sleep
from typing import Any, cast

from celery import Task
from celery.exceptions import Reject

from carpool import tracing
from carpool.client import Producer
from carpool.envelopes import EnqueueOptions
from carpool.exceptions import InvalidRequest, InvalidSetting, QueueFull, RedisUnavailable
from carpool_worker.app import app
from carpool_worker.flower import events
from carpool_worker.settings import settings
from carpool_worker.tasks.task_class import Nudge

DOOR_PAUSE = 1.0
"""Seconds until a request that the inbox could not take is handed out again."""


@app.task(name="carpool.enqueue", base=Nudge, bind=True, reject_on_worker_lost=True)
def enqueue(
    self: Task,
    params: Mapping[str, Any],
    callback: Mapping[str, Any] | None = None,
    metadata: Any = None,
    idempotency_key: str | None = None,
    client: str = "default",
    priority: int = 0,
    max_wait: float | None = None,
) -> None:
    """Take a request from a service that knows only Celery; bad params fail with the field and the rule.

    A message that Celery hands out twice is one request: without a key of its own, the task's id is the key.
    `max_wait` (seconds) counts from when a worker takes the message.
    """
    key = f"celery {self.request.id}" if idempotency_key is None else idempotency_key
    try:
        with Producer(settings().redis_url, client=client, allow_http=_may_be_http()) as producer:
            options = EnqueueOptions(
                callback=cast(Any, callback), metadata=metadata, priority=priority, max_wait=max_wait
            )
            options["trace"] = tracing.current() or _trace_of(self.request)
            producer.enqueue(params, idempotency_key=key, **options)
    except (QueueFull, RedisUnavailable) as error:
        # Not retry(), which publishes a new message and drops this one where Redis does not take that.
        sleep(DOOR_PAUSE)
        raise Reject(str(error), requeue=True) from None
    except (InvalidRequest, InvalidSetting) as error:
        events.publish_refusal(app, self.request.id, client, error)
        raise


def _trace_of(request: Any) -> str | None:
    # What the service's own instrumentation put into the message; anything else there is no reason to refuse it.
    trace = str(request.get("traceparent") or "")
    return trace if tracing.TRACEPARENT.fullmatch(trace) else None


def _may_be_http() -> bool:
    return bool(settings().webhook_allowed_networks)  # plain http goes nowhere else
