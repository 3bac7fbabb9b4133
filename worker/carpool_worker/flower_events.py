"""Shows batches in Flower: a batch is a row there for its whole life, sent as task events from a host of its own.

No prompt, answer or key is ever part of an event. Events are a view: where none can be sent, the work goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

import humanize
import sqlalchemy as sa
from celery import Celery

from carpool_worker.database import read
from carpool_worker.models import Batch
from carpool_worker.states import BatchState
from carpool_worker.store import batches

log = logging.getLogger(__name__)

HOSTNAME = "batches@carpool"

RECEIVED = "task-received"
STARTED = "task-started"
SUCCEEDED = "task-succeeded"
FAILED = "task-failed"
RETRIED = "task-retried"


def show(app: Celery, engine: sa.Engine, batch_ids: Iterable[str]) -> None:
    """Send the events that bring these batches' rows up to date."""
    if wanted := dict.fromkeys(batch_ids):
        _tell(app, _rows(engine, wanted))


def beat(app: Celery) -> None:
    """Tell Flower that the host of the batches is alive."""
    _tell(app, [("worker-heartbeat", {"freq": 60})])


def refuse(app: Celery, task_id: str, client: str, error: Exception) -> None:
    """Show a request that was refused at the Celery door: who sent it and which rule it broke, not what it says."""
    received = {"name": "carpool.enqueue", "args": f"client {client!s:.64}", "kwargs": ""}
    failed = {"exception": str(error), "traceback": ""}
    _tell(app, [(RECEIVED, {"uuid": task_id, **received}), (FAILED, {"uuid": task_id, **failed})])


def _rows(engine: sa.Engine, batch_ids: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    with read(engine) as connection:
        found = [batches.get(connection, batch_id) for batch_id in batch_ids]
    for batch in filter(None, found):
        kind, fields = describe(batch)
        yield kind, {"uuid": batch.id, **fields}


def _tell(app: Celery, events: Iterable[tuple[str, dict[str, Any]]]) -> None:
    try:
        with app.events.default_dispatcher(hostname=HOSTNAME) as dispatcher:
            for kind, fields in events:
                dispatcher.send(kind, **fields)
    except Exception as error:  # whatever is wrong with the view, the work that it shows is done
        log.warning("Flower was not told: %s", type(error).__name__)


def describe(batch: Batch) -> tuple[str, dict[str, Any]]:
    """Return the event that shows a batch as it stands: its type and its fields."""
    if batch.state in (BatchState.OPEN, BatchState.SEALED, BatchState.SUBMITTING):
        if batch.last_error:
            return RETRIED, {"exception": batch.last_error, "traceback": ""}
        return RECEIVED, {
            "name": f"batch {batch.model}",
            "args": contents(batch),
            "kwargs": "",
            "retries": 0,
            "eta": None,
        }
    if batch.state == BatchState.COMPLETED:
        return SUCCEEDED, {"result": outcome(batch), "runtime": _runtime(batch)}
    if batch.state == BatchState.REJECTED:
        return FAILED, {"exception": batch.last_error or "rejected", "traceback": ""}
    return STARTED, {}


def contents(batch: Batch) -> str:
    """Return what a batch holds: '5,000 requests, 12 MB'."""
    noun = "request" if batch.request_count == 1 else "requests"
    return f"{batch.request_count:,} {noun}, {humanize.naturalsize(batch.body_bytes, format='%.0f')}"


def outcome(batch: Batch) -> str:
    """Return how a batch went: '4,990 succeeded, 10 errored · $1.23, saved $1.23'."""
    counts = [
        f"{count:,} {name}"
        for name in ("succeeded", "errored", "canceled", "expired")
        if (count := getattr(batch, name))
    ]
    if not counts:
        return "not sent: every request of it was canceled"
    if batch.cost is None or batch.list_price is None:
        return ", ".join(counts)
    return f"{', '.join(counts)} · {_dollars(batch.cost)}, saved {_dollars(batch.list_price - batch.cost)}"


def _dollars(amount: Decimal) -> str:
    if 0 < amount < Decimal("0.0001"):
        return "<$0.0001"
    return f"${amount:.2f}" if amount >= Decimal("0.995") else f"${amount:.4f}"


def _runtime(batch: Batch) -> float:
    return ((batch.ended_at or 0) - (batch.in_progress_at or 0)) / 1000
