"""Shows batches in Flower: a batch is a row there for its whole life, sent as task events from a host of its own.

No prompt, answer or key is ever part of an event. Events are a view: where none can be sent, the work goes on. They
are kept nowhere, so whoever begins to listen is shown the batches of late anew (see refresh.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa
from celery import Celery

from carpool_worker.database import read
from carpool_worker.flower.rows import FAILED, RECEIVED, answer_time, describe
from carpool_worker.models import Batch
from carpool_worker.settings import settings
from carpool_worker.states import BatchState
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.reports import batches as batch_views
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)

HOSTNAME = "batches@carpool"

SHOWN_ANEW = 10_000
"""The newest batches, which is what a monitor that begins to listen is shown; Flower keeps twice as many rows."""

PAGE = 500
"""Rows that are read, and events that are sent, at once."""

HEARTBEAT = 60.0
"""Seconds between two signs of life, at least; a monitor takes a host for dead after twice as long."""

Event = tuple[str, dict[str, Any]]


def show(app: Celery, engine: sa.Engine, batch_ids: Iterable[str]) -> None:
    """Send the events that bring these batches' rows up to date."""
    if wanted := dict.fromkeys(batch_ids):
        _tell(app, map(_event, _named(engine, wanted)))


def finish(app: Celery, engine: sa.Engine, batch_id: str) -> None:
    """Show a batch that has just been completed; the time its answers took goes into Flower's metrics, this once."""
    _tell(app, map(_final_event, _named(engine, [batch_id])))


def show_newest(app: Celery, engine: sa.Engine) -> None:
    """Send the events that make the rows of the newest batches, whatever a monitor knows of them."""
    _tell(app, map(_event, _newest(engine)))


def beat(app: Celery) -> None:
    """Tell Flower that the host of the batches is alive."""
    _tell(app, [("worker-heartbeat", {"freq": max(HEARTBEAT, settings().poll_interval)})])


def refuse(app: Celery, task_id: str, client: str, error: Exception) -> None:
    """Show a request that was refused at the Celery door: who sent it and which rule it broke, not what it says."""
    received = {"name": "carpool.enqueue", "args": f"client {client!s:.64}", "kwargs": ""}
    failed = {"exception": str(error), "result": f"refused: {error}", "traceback": ""}
    _tell(app, [(RECEIVED, {"uuid": task_id, **received}), (FAILED, {"uuid": task_id, **failed})])


def _named(engine: sa.Engine, batch_ids: Iterable[str]) -> list[Batch]:
    with read(engine) as connection:
        return [batch for batch_id in batch_ids if (batch := batches.get(connection, batch_id))]


def _newest(engine: sa.Engine) -> Iterator[Batch]:
    before = None
    for _ in range(SHOWN_ANEW // PAGE):
        with read(engine) as connection:
            page = batch_views.page(connection, PAGE, before=before)
        if not page:
            return
        yield from page
        before = page[0].id


def _event(batch: Batch) -> Event:
    # Only of one that fills it is told when it will be sealed: the next opening of a window takes time to find.
    due_at = settings().limits.due_at(batch.opened_at) if batch.state == BatchState.OPEN else batch.opened_at
    kind, fields = describe(batch, due_at)
    return kind, {"uuid": batch.id, **fields}


def _final_event(batch: Batch) -> Event:
    kind, fields = _event(batch)
    done = batch.state == BatchState.COMPLETED
    return kind, {**fields, "runtime": answer_time(batch)} if done else fields


def _tell(app: Celery, events: Iterable[Event]) -> None:
    try:
        with app.events.default_dispatcher(hostname=HOSTNAME) as dispatcher:
            dispatcher.buffer_group, dispatcher.buffer_limit = {"task"}, PAGE
            for kind, fields in events:
                dispatcher.send(kind, **fields)
            dispatcher.flush()
    except Exception as error:  # whatever is wrong with the view, the work that it shows is done
        log.warning("events not sent to Flower", error=type(error).__name__)
