"""The Celery tasks: thin. Each holds a lease, calls one agent, then nudges whoever comes next and tells Flower."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from time import monotonic, sleep
from typing import Any, cast

import redis
import sqlalchemy as sa
from celery import Task
from celery.exceptions import Reject
from celery.worker.request import Request
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError

from carpool import tracing
from carpool.client import Producer
from carpool.envelopes import Common
from carpool.exceptions import InvalidRequest, InvalidSetting, QueueFull, RedisUnavailable
from carpool_worker import (
    aggregator,
    budgeter,
    collector,
    courier,
    flower_events,
    poller,
    pruner,
    rescuer,
    stager,
    submitter,
)
from carpool_worker.admission import admitted
from carpool_worker.app import app, queue
from carpool_worker.channels import reply
from carpool_worker.claude import Claude
from carpool_worker.clock import is_behind
from carpool_worker.database import engine, now, read, write
from carpool_worker.inbox import Inbox
from carpool_worker.lanes import Filled, Limits
from carpool_worker.leases import lease, slot
from carpool_worker.monitors import is_asked_for
from carpool_worker.pace import Pace
from carpool_worker.settings import settings
from carpool_worker.states import BatchState
from carpool_worker.store import batches, deliveries
from carpool_worker.store.answers import load_answers
from carpool_worker.windows import Windows, parse_all

log = logging.getLogger(__name__)

DOOR_PAUSE = 1.0
"""Seconds until a request that the inbox could not take is handed out again."""


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
    log.warning("%s can't work now, each tick tries again: %s", task, reason)


_complained: dict[str, float] = {}


@cache
def server() -> redis.Redis:
    """Return this process's connections to Redis."""
    return redis.Redis.from_url(settings().redis_url)


@cache
def claude() -> Claude:
    """Return this process's client of the API."""
    return Claude(Pace(server()))


def limits() -> Limits:
    """Return when a batch is full or due."""
    return Limits.of(settings())


def windows() -> Windows:
    """Return when batches may be posted."""
    return parse_all(settings().submit_windows)


@app.task(name="carpool.aggregate", base=Nudge)
def aggregate() -> None:
    """Pool what is in the inbox."""
    with lease(server(), "aggregate") as held:
        if held:
            inbox = Inbox(server(), settings().claim_interval)
            aggregator.aggregate(engine(), inbox, limits(), _report, settings().budgets)


@app.task(name="carpool.stage", base=Nudge)
def stage() -> None:
    """Put what is due back on its way: retries into batches, deliveries to the courier, batches to their agents."""
    with lease(server(), "stage") as held:
        if not held:
            return
        _report(Filled(refused=budgeter.release(engine(), settings().budgets)))
        _report(stager.stage(engine(), limits()))
        with write(engine()) as connection:
            deliveries.stage(connection, now())
            deliveries.rescue(connection, now())
        with read(engine()) as connection:
            to_submit = admitted(connection, now(), settings().queue_limit, windows=windows())
            to_collect = batches.due_to_collect(connection, now())
            to_deliver = deliveries.due(connection, now())
        _nudge("submit", to_submit)
        _nudge("collect", to_collect)
        if to_deliver:
            _nudge("deliver")


@app.task(name="carpool.submit", base=Nudge)
def submit(batch_id: str) -> None:
    """Post one sealed batch."""
    with slot(server(), "submit") as free, lease(server(), f"submit:{batch_id}") as held:
        if not (free and held):
            return
        one = settings()
        bounds = one.submit_timeout, one.queue_limit, windows(), one.cache_shared_prompts
        submitted = submitter.submit(engine(), claude(), batch_id, *bounds)
        if submitted:
            _show([batch_id, *submitted.replacements])
            _nudge("submit", submitted.replacements)
            if submitted.state == BatchState.REJECTED:
                _nudge("deliver")


@app.task(name="carpool.poll", base=Nudge)
def poll() -> None:
    """Look at the batches that are out."""
    with lease(server(), "poll") as held:
        if held:
            flower_events.beat(app)
            ended = poller.poll(engine(), claude())
            _nudge("collect", ended)


@app.task(name="carpool.rescue", base=Nudge)
def rescue() -> None:
    """Settle doubts about creates whose answer was lost."""
    with lease(server(), "rescue") as held:
        if held:
            patience = rescuer.Patience(settings().submit_timeout, settings().settle_interval)
            _show(rescuer.rescue(engine(), claude(), patience))


@app.task(name="carpool.prune", base=Nudge)
def prune() -> None:
    """Drop what has been kept for long enough."""
    with lease(server(), "prune") as held:
        if held:
            days = settings().params_retention_days, settings().answers_retention_days
            pruner.prune(engine(), *days)


@app.task(name="carpool.collect", base=Nudge)
def collect(batch_id: str) -> None:
    """Bring one ended batch's results in."""
    with slot(server(), "collect") as free, lease(server(), f"collect:{batch_id}") as held:
        if not (free and held):
            return

        def announce(request_ids: Sequence[str]) -> None:
            _answer(request_ids)
            _nudge("deliver")

        policy = settings().max_attempts, settings().retry_interval
        if collector.collect(engine(), claude(), batch_id, *policy, announce):
            flower_events.finish(app, engine(), batch_id)
        else:
            _show([batch_id])


@app.task(name="carpool.deliver", base=Nudge)
def deliver() -> None:
    """Bring answers to their callbacks."""
    with slot(server(), "deliver") as free:
        if free:
            courier.deliver(engine(), app, settings())


@app.task(name="carpool.reply", base=Nudge)
def answer_waits() -> None:
    """Answer the producers that wait for requests which have ended already."""
    with lease(server(), "reply") as held:
        if held:
            reply.answer_waits(server(), engine())


@app.task(name="carpool.show", base=Nudge)
def show() -> None:
    """Show the newest batches to a monitor that has begun to listen."""
    if is_asked_for(server()):
        flower_events.show_newest(app, engine())


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
            terms = Common(
                callback=cast(Any, callback), metadata=metadata, priority=priority, max_wait=max_wait
            )
            terms["trace"] = tracing.current() or _trace_of(self.request)
            producer.enqueue(params, idempotency_key=key, **terms)
    except (QueueFull, RedisUnavailable) as error:
        # Not retry(), which publishes a new message and drops this one where Redis does not take that.
        sleep(DOOR_PAUSE)
        raise Reject(str(error), requeue=True) from None
    except (InvalidRequest, InvalidSetting) as error:
        flower_events.refuse(app, self.request.id, client, error)
        raise


def _trace_of(request: Any) -> str | None:
    # What the service's own instrumentation put into the message; anything else there is no reason to refuse it.
    trace = str(request.get("traceparent") or "")
    return trace if tracing.TRACEPARENT.fullmatch(trace) else None


def _may_be_http() -> bool:
    return bool(settings().webhook_allowed_networks)  # plain http goes nowhere else


def _report(filled: Filled) -> None:
    _show([*filled.opened, *filled.sealed, *filled.dissolved])
    _nudge("submit", filled.sealed)
    if ended := [*filled.canceled, *filled.refused]:
        _answer(ended)
        _nudge("deliver")


def _answer(request_ids: Sequence[str]) -> None:
    """Push the answers that somebody waits for."""
    if waited := reply.waited(server(), request_ids):
        with read(engine()) as connection:
            reply.push(server(), load_answers(connection, list(waited)))


def _nudge(agent: str, batch_ids: Iterable[str] | None = None) -> None:
    if is_behind(server(), queue(agent)):
        return  # the next tick nudges again
    for args in [()] if batch_ids is None else [(batch_id,) for batch_id in batch_ids]:
        app.send_task(f"carpool.{agent}", args, queue=queue(agent))


def _show(batch_ids: Iterable[str]) -> None:
    flower_events.show(app, engine(), batch_ids)
