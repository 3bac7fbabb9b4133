"""Flushes, pauses and resumes lanes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import sqlalchemy as sa
from celery import Celery

from carpool_worker.database import now, write
from carpool_worker.exceptions import LONGEST_MESSAGE, WorkerError
from carpool_worker.flower import events
from carpool_worker.outside_text import cleaned
from carpool_worker.store.batches import filling, lane_pauses
from carpool_worker.store.batches import queue as batch_queue
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.reports import lanes as report
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)


class UnknownLane(WorkerError):
    """A lane that never had a batch, and is not paused."""


@dataclass(frozen=True)
class FlushedBatch:
    """A batch that was sealed by a flush."""

    id: str
    lane: str
    requests: int


@dataclass(frozen=True)
class Flushed:
    """The batches that a flush sealed, and how many no longer wait for a submit window."""

    batches: Sequence[FlushedBatch]
    expedited: int


def flush(
    engine: sa.Engine,
    app: Celery,
    lane: str | None = None,
    model: str | None = None,
    *,
    ignore_windows: bool = False,
    actor: str,
) -> Flushed:
    """Seal the open batches, all or those of one lane or model.

    With `ignore_windows` they don't wait for a submit window, nor do batches that were sealed before. Flower shows them
    through the Celery app's broker.
    """
    with write(engine) as connection:
        sealed = filling.seal_opened_before(connection, now(), now(), lane, model)
        found = filter(None, [batches.get(connection, batch_id) for batch_id in sealed])
        flushed = [FlushedBatch(one.id, one.lane, one.request_count) for one in found]
        expedited = batch_queue.expedite(connection, now(), lane, model) if ignore_windows else 0
    events.publish(app, engine, sealed)
    log.info(
        "lanes flushed by operator",
        actor=actor,
        lane=lane,
        model=model,
        count=len(flushed),
        expedited=expedited,
    )
    return Flushed(flushed, expedited)


def pause(
    engine: sa.Engine, lanes: Sequence[str], reason: str, *, actor: str, app: Celery | None = None
) -> None:
    """Submit nothing from these lanes until they are resumed; a pause that Carpool began becomes the operator's.

    Flower shows it through the Celery app's broker.

    Raises:
        UnknownLane: none of them is paused then.
    """
    with write(engine) as connection:
        for lane in lanes:
            _check_known(connection, lane)
            lane_pauses.pause_by_operator(connection, lane, cleaned(reason, LONGEST_MESSAGE), now())
    for lane in lanes:
        log.info("lane paused by operator", actor=actor, lane=lane)
    if app:
        events.publish_lanes(app, engine, lanes)


def resume(engine: sa.Engine, lanes: Sequence[str], *, actor: str, app: Celery | None = None) -> list[str]:
    """Submit from these lanes again, whether Carpool or an operator paused them; return those that were paused.

    Raises:
        UnknownLane: none of them is resumed then.
    """
    resumed = []
    with write(engine) as connection:
        for lane in lanes:
            if lane_pauses.resume(connection, lane):
                resumed.append(lane)
            else:
                _check_known(connection, lane)
    for lane in resumed:
        log.info("lane resumed by operator", actor=actor, lane=lane)
    if app and resumed:
        events.publish_lanes(app, engine, resumed)
    return resumed


def _check_known(connection: sa.Connection, lane: str) -> None:
    if not report.is_known(connection, lane):
        names = [one.lane for one in report.every(connection)]
        near = get_close_matches(lane, names, 1)
        known = f"did you mean {near[0]!r}?" if near else "`carpool lanes --all` lists them"
        raise UnknownLane(f"there is no lane {lane!r}: {known if names else 'no batch has been made yet'}")
