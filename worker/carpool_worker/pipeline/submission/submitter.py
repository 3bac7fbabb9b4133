"""Posts a sealed batch: spools its body, commits the intent, posts, commits the answer.

The intent stands in the table before the first byte leaves, so a batch whose answer was lost is known as such and is
never simply posted again; the rescuer finds out what became of it.
"""

from __future__ import annotations

import json

import sqlalchemy as sa

from carpool_worker.claude.batch import RemoteBatch
from carpool_worker.claude.client import Claude
from carpool_worker.database import now, read, write
from carpool_worker.exceptions import ClaudeError
from carpool_worker.models import Batch
from carpool_worker.pipeline.batching import canceler
from carpool_worker.pipeline.submission import cache_planner, failures
from carpool_worker.pipeline.submission.admission import Admission, admit, admitted
from carpool_worker.pipeline.submission.body import spooled
from carpool_worker.pipeline.submission.failures import Submitted
from carpool_worker.pipeline.submission.splitter import split
from carpool_worker.policies.admission import waits_for_room
from carpool_worker.policies.in_doubt import longest_post
from carpool_worker.policies.windows import Windows, blocks
from carpool_worker.settings import START_QUEUE_LIMIT
from carpool_worker.states import BatchState
from carpool_worker.store.batches import lane_pauses, transitions
from carpool_worker.store.batches import queue as batch_queue
from carpool_worker.store.batches import rows as batches
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)

Cursor = tuple[str | None, int | None]
"""The newest batch that Anthropic knew, and when that was, by its clock."""


def submit(
    engine: sa.Engine,
    claude: Claude,
    batch_id: str,
    seconds: float,
    queue_limit: int = START_QUEUE_LIMIT,
    windows: Windows = (),
    cache_shared_prompts: bool = False,
) -> Submitted | None:
    """Post one sealed batch, within `seconds`; None where it isn't sealed (any more), or nothing is new.

    With `cache_shared_prompts` it may have to wait for a warm-up, a sealed batch that is made here.
    """
    canceler.sweep_batch(engine, batch_id)
    admission = admit(engine, batch_id, queue_limit, longest_post(seconds), windows)
    if admission is None:
        return _note_wait(engine, batch_id, queue_limit, windows)
    batch, headers = admission.batch, json.loads(admission.batch.headers)
    if batch.request_count > queue_limit:
        return _split(engine, admission, queue_limit)
    if cache_shared_prompts and batch.marked is None and (warm_up := cache_planner.plan(engine, batch)):
        return _let_ahead(engine, admission, warm_up)
    with spooled(engine, batch_id) as (body, length):
        try:
            newest = claude.newest_id(headers)  # finds a bad key before 240 MB have left
        except ClaudeError as error:
            return failures.hold(engine, admission, error)
        if not _intend(engine, admission, (newest, claude.answered_at), queue_limit, windows):
            return None
        try:
            remote = claude.create(body, length, headers, seconds)
        except ClaudeError as error:
            return failures.settle(engine, admission, error)
    return accept(engine, batch_id, remote)


def _let_ahead(engine: sa.Engine, admission: Admission, warm_up: str) -> Submitted:
    if admission.probing:
        with write(engine) as connection:
            lane_pauses.probe_again(connection, admission.probing, now())  # the warm-up asks instead
    return Submitted(BatchState.SEALED, (warm_up,))


def accept(
    engine: sa.Engine, batch_id: str, remote: RemoteBatch, in_doubt_at: int | None = None
) -> Submitted | None:
    """Commit Anthropic's id of a batch that was posted; None where another was faster.

    With `in_doubt_at` the batch is adopted: that it is ours is only known when its results name our requests.
    """
    with write(engine) as connection:
        moved = transitions.accept(
            connection,
            batch_id,
            claude_id=remote.id,
            expires_at=remote.expires_at,
            in_doubt_at=in_doubt_at,
            at=now(),
        )
        lifted = lane_pauses.lift(connection, batch_id) if moved else None
    if not moved:
        log.warning("batch accepted, but no longer submitting", batch=batch_id, claude_id=remote.id)
        return None
    if lifted:
        log.warning("lane resumed, as a batch of it was accepted", lane=lifted)
    return Submitted(BatchState.IN_PROGRESS)


def _note_wait(engine: sa.Engine, batch_id: str, queue_limit: int, windows: Windows) -> Submitted | None:
    """Say on a batch that waits for room, once, that it does."""
    with read(engine) as connection:
        batch = batches.get(connection, batch_id)
        if batch is None or batch.state != BatchState.SEALED or batch.due_at > now() or batch.last_error:
            return None
        if batch.lane in lane_pauses.by_lane(connection) or blocks(windows, batch.submit_by, now()):
            return None
        if batch.id in batch_queue.warming(connection, now()):
            return None
        why = waits_for_room(batch_queue.queued(connection), queue_limit)
    with write(engine) as connection:
        batches.annotate_sealed(connection, batch_id, batch.submissions, why)
    log.info("batch waits for room in the queue", batch=batch_id, reason=why)
    return Submitted(BatchState.SEALED, error=why)


def _split(engine: sa.Engine, admission: Admission, queue_limit: int) -> Submitted | None:
    why = f"{admission.batch.request_count:,} requests are more than queue_limit ({queue_limit:,}): split"
    with write(engine) as connection:
        if not _commit_intent(connection, admission.batch, (None, None)):
            return None
        halves = split(connection, admission.batch, why)
        if admission.probing:
            lane_pauses.probe_again(connection, admission.probing, now())
    return Submitted(BatchState.REJECTED, tuple(halves), why)


def _intend(
    engine: sa.Engine, admission: Admission, cursor: Cursor, queue_limit: int, windows: Windows
) -> bool:
    # Two submitters that see the same room must not both take it.
    with write(engine) as connection:
        batch_queue.lock_queue(connection)
        if admission.batch.id not in admitted(connection, now(), queue_limit, admission.probing, windows):
            return False
        return _commit_intent(connection, admission.batch, cursor)


def _commit_intent(connection: sa.Connection, batch: Batch, cursor: Cursor) -> bool:
    cursor_id, cursor_at = cursor
    return transitions.submit(connection, batch, cursor_id=cursor_id, cursor_at=cursor_at, at=now())
