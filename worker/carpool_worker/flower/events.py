"""Batches in Flower: each is a row there for its whole life, published as task events from a hostname of its own.

No event ever contains a prompt, an answer or a key. Events are only a view: if none can be sent, the work continues.
They are not kept anywhere, so the newest batches are published again when Flower subscribes (see refresh.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from celery import Celery

from carpool_worker.database import read
from carpool_worker.flower.rows import FAILED, RECEIVED, answer_time, describe
from carpool_worker.models import Batch
from carpool_worker.settings import settings
from carpool_worker.states import BatchState
from carpool_worker.store.batches import lane_pauses
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.reports import batches as batch_views
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)

HOSTNAME = "batches@carpool"

MOST_REFRESHED = 10_000
"""How many of the newest batches are published when Flower subscribes; it keeps twice as many rows."""

PAGE = 500
"""Rows read, and events sent, at a time."""

HEARTBEAT_SECONDS = 60.0
"""The shortest interval between two heartbeats; Flower considers a host dead after twice as long."""

Event = tuple[str, dict[str, Any]]

ShownBatch = tuple[Batch, Mapping[str, int], str | None]
"""A batch, how many of its requests failed with which type of error, and why its lane is paused, if it is."""


def publish(app: Celery, engine: sa.Engine, batch_ids: Iterable[str]) -> None:
    """Bring these batches' rows in Flower up to date."""
    if wanted := dict.fromkeys(batch_ids):
        _send(app, map(_event, _named(engine, wanted)))


def publish_lanes(app: Celery, engine: sa.Engine, lanes: Iterable[str]) -> None:
    """Bring the rows of the batches up to date that these lanes have not sent: the lanes were paused, or resumed."""
    named = set(lanes)
    with read(engine) as connection:
        unsent = batches.in_states(connection, [BatchState.OPEN, BatchState.SEALED])
        shown = _with_reasons(connection, [one for one in unsent if one.lane in named][-PAGE:])
    _send(app, map(_event, shown))


def publish_completed(app: Celery, engine: sa.Engine, batch_id: str) -> None:
    """Publish a batch that has just been completed; only this event puts its runtime into Flower's metrics."""
    _send(app, map(_final_event, _named(engine, [batch_id])))


def publish_newest(app: Celery, engine: sa.Engine) -> None:
    """Publish the newest batches, whatever Flower already knows of them."""
    _send(app, map(_event, _newest(engine)))


def send_heartbeat(app: Celery) -> None:
    """Report to Flower that the batches' host is alive."""
    _send(app, [("worker-heartbeat", {"freq": max(HEARTBEAT_SECONDS, settings().poll_interval)})])


def publish_refusal(app: Celery, task_id: str, client: str, error: Exception) -> None:
    """Publish a request that `carpool.enqueue` refused: who sent it and which rule it broke, not what it says."""
    received = {"name": "carpool.enqueue", "args": f"client {client!s:.64}", "kwargs": ""}
    failed = {"exception": str(error), "result": f"refused: {error}", "traceback": ""}
    _send(app, [(RECEIVED, {"uuid": task_id, **received}), (FAILED, {"uuid": task_id, **failed})])


def _named(engine: sa.Engine, batch_ids: Iterable[str]) -> list[ShownBatch]:
    with read(engine) as connection:
        found = [batch for batch_id in batch_ids if (batch := batches.get(connection, batch_id))]
        return _with_reasons(connection, found)


def _newest(engine: sa.Engine) -> Iterator[ShownBatch]:
    before = None
    for _ in range(MOST_REFRESHED // PAGE):
        with read(engine) as connection:
            page = batch_views.page(connection, PAGE, before=before)
            shown = _with_reasons(connection, page)
        if not page:
            return
        yield from shown
        before = page[0].id


def _with_reasons(connection: sa.Connection, some: Sequence[Batch]) -> list[ShownBatch]:
    completed = [batch.id for batch in some if batch.state == BatchState.COMPLETED]
    errors = batch_views.error_types(connection, completed) if completed else {}
    paused = {lane: pause.reason for lane, pause in lane_pauses.by_lane(connection).items()}
    return [(batch, errors.get(batch.id, {}), paused.get(batch.lane)) for batch in some]


def _event(shown: ShownBatch) -> Event:
    batch, errors, paused = shown
    # Only an open batch needs the time it will be sealed: finding the next opening of a window is slow.
    due_at = settings().limits.due_at(batch.opened_at) if batch.state == BatchState.OPEN else batch.opened_at
    kind, fields = describe(batch, due_at, errors, paused)
    return kind, {"uuid": batch.id, **fields}


def _final_event(shown: ShownBatch) -> Event:
    batch, (kind, fields) = shown[0], _event(shown)
    done = batch.state == BatchState.COMPLETED
    return kind, {**fields, "runtime": answer_time(batch)} if done else fields


def _send(app: Celery, events: Iterable[Event]) -> None:
    try:
        with app.events.default_dispatcher(hostname=HOSTNAME) as dispatcher:
            dispatcher.buffer_group, dispatcher.buffer_limit = {"task"}, PAGE
            for kind, fields in events:
                dispatcher.send(kind, **fields)
            dispatcher.flush()
    except Exception as error:  # whatever is wrong with the view, the work itself is done
        log.warning("events not sent to Flower", error=type(error).__name__)
