"""`carpool.enqueue`, for services that use only Celery: a task that puts its request into the inbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import monotonic, sleep
from typing import Any, cast

import redis
from celery import Task
from celery.exceptions import Reject

from carpool import tracing
from carpool.client import Producer
from carpool.contract import to_json
from carpool.enqueue_options import EnqueueOptions
from carpool.exceptions import CarpoolError, InvalidRequest, InvalidSetting, QueueFull, RedisUnavailable
from carpool.misplaced import near
from carpool_worker.app import app
from carpool_worker.coordination import refused_messages as refused_count
from carpool_worker.database import engine
from carpool_worker.flower import events
from carpool_worker.pipeline.batching import refused_messages
from carpool_worker.pipeline.inbox import quarantine
from carpool_worker.settings import settings
from carpool_worker.tasks import followups
from carpool_worker.tasks.task_class import CarpoolTask

OTHERS = {"reply", "trace", "betas", "user_profile_id", "workspace_id"}
ARGUMENTS = frozenset({"params", "idempotency_key", "client", *EnqueueOptions.__optional_keys__} - OTHERS)
"""What the task takes: the keywords of an enqueue, but those that are left to producers."""

MESSAGE_FIELD = b"celery"
"""Of a quarantined entry that is a message of Celery's, as JSON."""

REQUEUE_SECONDS = 1.0
"""How long a message is kept back before it returns to the queue, when the inbox could not take its request."""


OVER_QUOTA_SECONDS = 0.02
"""The same for a client whose quota is reached: its messages must not keep those of others waiting. Redis is asked
about such a client once in REQUEUE_SECONDS, and meanwhile they only go round."""

OVER_QUOTA = "its client's quota was reached a moment ago"

_over_quota: dict[str, float] = {}
"""By client, until when its quota counts as reached, by the monotonic clock."""


@app.task(name="carpool.enqueue", base=CarpoolTask, bind=True, reject_on_worker_lost=True)
def enqueue(
    self: Task,
    params: Any = None,
    callback: Mapping[str, Any] | None = None,
    metadata: Any = None,
    idempotency_key: str | None = None,
    client: str = "default",
    priority: int = 0,
    max_wait: float | None = None,
    tags: Sequence[str] = (),
    deadline: float | str | None = None,
    deadline_policy: str | None = None,
    **unknown: Any,
) -> None:
    """Enqueue a request for a service that uses only Celery; a message that breaks a rule is refused.

    Then the task fails, with field and rule, and its callback gets that as the error of a discarded request, which
    `carpool requests --state discarded` lists. Where not even the client is valid, the quarantine keeps the message.

    A message that Celery delivers twice makes one request: the task's id is the default idempotency key.
    `max_wait`, in seconds, counts from when a worker takes the message, and so does a `deadline` in seconds; one that
    is the text of a time, 2026-12-01T09:00:00Z, does not.
    """
    options = EnqueueOptions(
        callback=cast(Any, callback),
        metadata=metadata,
        priority=priority,
        max_wait=max_wait,
        tags=tags,
        deadline=cast(Any, deadline),
        deadline_policy=cast(Any, deadline_policy),
        trace=tracing.current() or _trace_of(self.request),
    )
    key = f"celery {self.request.id}" if idempotency_key is None else idempotency_key
    if isinstance(client, str) and _over_quota.get(client, 0.0) > monotonic():  # it may be anything
        raise _requeued(QueueFull(OVER_QUOTA), OVER_QUOTA_SECONDS)
    try:
        _check_arguments(unknown)
        _enqueue(client, params, key, options)
    except QueueFull as full:
        if full.quota and full.quota.never_fits:
            _keep_refused(self.request.id, client, params, options, full)
            events.publish_refusal(app, self.request.id, client, full)
            raise
        if full.quota:
            _over_quota[client] = monotonic() + REQUEUE_SECONDS
        raise _requeued(full, OVER_QUOTA_SECONDS if full.quota else REQUEUE_SECONDS) from None
    except RedisUnavailable as error:
        raise _requeued(error) from None
    except (InvalidRequest, InvalidSetting) as error:
        _keep_refused(self.request.id, client, params, options, error)
        events.publish_refusal(app, self.request.id, client, error)
        raise


def _check_arguments(unknown: Mapping[str, Any]) -> None:
    if unknown:
        name = min(unknown)
        meant = near(name, ARGUMENTS)
        hint = f"did you mean {meant!r}?" if meant else f"there are {', '.join(sorted(ARGUMENTS))}"
        raise InvalidRequest(name, f"is no argument of carpool.enqueue: {hint}")


def _keep_refused(
    task_id: str, client: str, params: Any, options: EnqueueOptions, error: CarpoolError
) -> None:
    """Make the message a discarded request, so that its callback and operators learn of it."""
    callback, metadata = options.get("callback"), options.get("metadata")
    try:
        kept = refused_messages.envelope_of(task_id, client, params, callback, metadata, _allows_http())
    except InvalidSetting:
        message = {
            "task": task_id,
            "client": client,
            "params": params,
            "callback": callback,
            "metadata": metadata,
        }
        with settings().redis() as server:
            quarantine.add(server, {MESSAGE_FIELD: to_json(message)}, error)
            refused_count.count(server)
        return
    if refused_messages.refuse(engine(), kept, str(error)):
        followups.push_answers([kept.id])
        followups.notify("deliver")
        with (
            suppress(redis.RedisError),
            settings().redis() as server,
        ):  # it is stored, so the message is done with
            refused_count.count(server, client)


def _enqueue(client: str, params: Mapping[str, Any], key: str, options: EnqueueOptions) -> None:
    with Producer(
        settings().redis_url,
        client=client,
        allow_http=_allows_http(),
        inbox_shards=settings().inbox_shards,
        key_prefix=settings().key_prefix,
    ) as producer:
        producer.enqueue(params, idempotency_key=key, **options)


def _allows_http() -> bool:
    return bool(settings().webhook_allowed_networks)  # plain http is allowed only to those


def _requeued(error: CarpoolError, seconds: float = REQUEUE_SECONDS) -> Reject:
    # Not retry(): it publishes a new message, and drops this one even if Redis does not accept the new one.
    sleep(seconds)
    return Reject(str(error), requeue=True)


def _trace_of(request: Any) -> str | None:
    # The service's instrumentation puts it into the message; a malformed one is no reason to refuse the request.
    trace = str(request.get("traceparent") or "")
    return trace if tracing.TRACEPARENT.fullmatch(trace) else None
