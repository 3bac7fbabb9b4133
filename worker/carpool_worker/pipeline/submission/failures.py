"""Handles a failed post: the batch waits, its lane is paused, it is split, or it is in doubt."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import sqlalchemy as sa

from carpool_worker import transition_log
from carpool_worker.database import now, write
from carpool_worker.exceptions import ClaudeError
from carpool_worker.models import Batch
from carpool_worker.pipeline.submission import splitter
from carpool_worker.pipeline.submission.admission import Admission
from carpool_worker.policies.refusals import Blame, judge, named_requests
from carpool_worker.policies.retries import (
    Pause,
    Postpone,
    Reject,
    after_submission,
    backoff,
    before_submission,
    probe_delay,
    status_of,
)
from carpool_worker.states import BatchState
from carpool_worker.store.batches import families, in_doubt, lane_pauses, refusals, transitions
from carpool_worker.store.batches import rows as batches
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import Milliseconds, after

log = get_logger(__name__)

SLOWEST = 10
"""So many probes of a lane, and the next waits for as long as any."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """The outcome of a submission: the batch's state, the batches that go in its place, and why it was not posted."""

    state: BatchState
    replacements: tuple[str, ...] = ()
    error: str | None = None


def defer(engine: sa.Engine, admission: Admission, error: ClaudeError) -> Submitted | None:
    """Make a batch wait because the call before its post failed; return None if nothing has changed."""
    batch = admission.batch
    decision = before_submission(error, batch.submissions + 1)
    with write(engine) as connection:
        if isinstance(decision, Pause):
            if batches.annotate_sealed(connection, batch.id, batch.submissions, str(error)):
                refusals.add(connection, batch.model, status_of(error))
            return _pause(connection, batch, error)
        due_at = _later(decision.seconds)
        if not batches.defer_sealed(connection, batch.id, batch.submissions, due_at, str(error)):
            return None
        refusals.add(connection, batch.model, status_of(error))
        _probe_again(connection, admission, due_at)
    log.warning(
        "batch deferred", batch=batch.id, seconds=decision.seconds, status=error.status, error=str(error)
    )
    return Submitted(BatchState.SEALED, error=str(error))


def resolve(engine: sa.Engine, admission: Admission, error: ClaudeError) -> Submitted | None:
    """Handle a failed post; return None if the batch has moved on meanwhile, or if nothing has changed."""
    with write(engine) as connection:
        batch = in_doubt.undecided(connection, admission.batch.id, admission.batch.submissions + 1)
        if batch is None:
            log.warning(
                "batch went on without the post that failed", batch=admission.batch.id, error=str(error)
            )
            return None
        refusals.add(connection, batch.model, status_of(error))
        decision = after_submission(error, batch.submissions)
        if isinstance(decision, Pause):
            transitions.postpone(connection, batch.id, batch.submissions, error=str(error))
            return _pause(connection, batch, error)
        if isinstance(decision, Reject):
            return _refuse(connection, admission, batch, error)
        if isinstance(decision, Postpone):
            due_at = _later(decision.seconds)
            transitions.postpone(connection, batch.id, batch.submissions, error=str(error), due_at=due_at)
            _probe_again(connection, admission, due_at)
            return Submitted(BatchState.SEALED, error=str(error))
        _probe_again(connection, admission, _later(probe_delay(0)))
        return _doubt(connection, batch.id, error)


def _pause(connection: sa.Connection, batch: Batch, error: ClaudeError) -> Submitted | None:
    if lane_pauses.pause(connection, batch.lane, str(error), now(), _later(probe_delay(0))):
        paused = {"lane": batch.lane, "status": error.status, "error": str(error)}
        transition_log.record(connection, "lane paused by carpool", logging.ERROR, **paused)
        return Submitted(BatchState.SEALED, error=str(error))
    if pause := lane_pauses.by_lane(connection).get(batch.lane):
        lane_pauses.probe_again(connection, batch.lane, _later(probe_delay(pause.probes)), str(error))
        transition_log.record(
            connection, "lane still paused", lane=batch.lane, probes=pause.probes, error=str(error)
        )
    return None


def _refuse(connection: sa.Connection, admission: Admission, batch: Batch, error: ClaudeError) -> Submitted:
    """Find out what is at fault for a body that is refused for good: a request, or the lane as a whole."""
    family = families.family(connection, batch)
    verdict = judge(error, batch.request_count, family)
    if verdict is Blame.PAUSE:
        return _pause_refused(connection, batch, error)
    _probe_again(connection, admission, now())
    match verdict:
        case Blame.WAIT:
            due_at = _later(backoff(batch.submissions))
            transitions.postpone(connection, batch.id, batch.submissions, error=str(error), due_at=due_at)
            return Submitted(BatchState.SEALED, error=str(error))
        case Blame.TAKE_OUT:
            places = named_requests(str(error), batch.request_count)
            parts = splitter.take_out(connection, batch, places, error)
        case Blame.SPLIT:
            parts = splitter.split(connection, batch, str(error))
        case Blame.DISCARD:
            parts = []
            splitter.discard_only(connection, batch, error)
    return Submitted(BatchState.REJECTED, tuple(parts), str(error))


def _pause_refused(connection: sa.Connection, batch: Batch, error: ClaudeError) -> Submitted:
    # A single request is enough to try the lane with, and it is discarded only once the lane is known to work.
    if batch.request_count == 1:
        due_at = _later(probe_delay(SLOWEST))  # the next probe takes another
        transitions.postpone(connection, batch.id, batch.submissions, error=str(error), due_at=due_at)
        submitted = Submitted(BatchState.SEALED, error=str(error))
    else:
        parts = splitter.split_first(connection, batch, str(error))
        submitted = Submitted(BatchState.REJECTED, tuple(parts), str(error))
    _pause(connection, batch, error)
    return submitted


def _doubt(connection: sa.Connection, batch_id: str, error: ClaudeError) -> Submitted:
    in_doubt.begin(connection, batch_id, f"in doubt: {error}", now())
    doubted = {"batch": batch_id, "status": error.status, "error": str(error)}
    transition_log.record(connection, "batch in doubt", logging.WARNING, **doubted)
    return Submitted(BatchState.SUBMITTING, error=f"in doubt: {error}")


def _probe_again(connection: sa.Connection, admission: Admission, at: int) -> None:
    # A probe that failed for another reason doesn't say whether the pause is over.
    if admission.probing:
        lane_pauses.probe_again(connection, admission.probing, at)


def _later(seconds: float) -> Milliseconds:
    return after(now(), seconds)
