"""Posts a sealed batch: spools its body, commits the intent, posts, commits the answer.

The intent is in the table before the first byte leaves, so a batch whose answer is lost is known to be in doubt. It is
never simply posted again; the rescuer finds out what became of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import sqlalchemy as sa

from carpool_worker.claude.batch import RemoteBatch
from carpool_worker.claude.client import Claude
from carpool_worker.claude.fence import Fence, elapsed
from carpool_worker.database import now, read, write
from carpool_worker.exceptions import ClaudeError
from carpool_worker.models import Batch
from carpool_worker.pipeline.batching import canceler
from carpool_worker.pipeline.collection import recognition
from carpool_worker.pipeline.submission import cache_planner, failures, orphans, turns
from carpool_worker.pipeline.submission.admission import Admission, admit, admitted
from carpool_worker.pipeline.submission.body import spooled
from carpool_worker.pipeline.submission.failures import Submitted
from carpool_worker.pipeline.submission.look import Look, look
from carpool_worker.pipeline.submission.splitter import split
from carpool_worker.pipeline.submission.turns import Gathered
from carpool_worker.policies.admission import SubmitPolicy, waits_for_room
from carpool_worker.policies.windows import blocks
from carpool_worker.states import BatchState
from carpool_worker.store.batches import in_doubt, lane_pauses, transitions
from carpool_worker.store.batches import queue as batch_queue
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.batches import turns as served
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)


def submit(
    engine: sa.Engine,
    claude: Claude,
    batch_id: str,
    policy: SubmitPolicy,
    clock: Callable[[], float] = elapsed,
) -> Submitted | None:
    """Post one sealed batch; return what became of it, or None if nothing has changed.

    Called by the task `carpool.submit`, under the batch's lock. Before the post it commits the intent: the batch is
    `submitting`, and the newest batch that Anthropic had is recorded. After the post it commits Anthropic's id, or what
    follows from the error. A crash before the intent leaves the batch sealed; after it, the batch is in doubt, and the
    rescuer finds out whether it was made: it is never simply posted again.

    The time for the post begins before the intent, by `clock` (seconds, suspensions included). The end of the body is
    held back until the tables still say that this post is the one that counts. Should the batch be taken over after
    that, what this post has made is canceled at once.

    Instead of being posted, a batch may be split (if it can never fit into the queue), or wait for a warm-up, a sealed
    batch that is made here; or it makes way for others' requests, whose turn it is, in a batch that is gathered here.
    The new ids are in `replacements`.
    """
    canceler.sweep_batch(engine, batch_id)
    admission = admit(engine, batch_id, policy)
    if admission is None:
        return _explain_wait(engine, batch_id, policy)
    limit = policy.limit_of(admission.batch.account)
    if admission.batch.request_count > limit:
        return _split(engine, admission, limit)
    if admission.is_crowded and (gathered := turns.gather(engine, admission.batch, policy)):
        return _go_after(engine, claude, admission, gathered, policy, clock)
    return _go(engine, claude, admission, policy, clock)


def _go(
    engine: sa.Engine,
    claude: Claude,
    admission: Admission,
    policy: SubmitPolicy,
    clock: Callable[[], float],
) -> Submitted | None:
    if policy.cache_shared_prompts and (warm_up := cache_planner.plan_cache(engine, admission.batch)):
        return _wait_for_warm_up(engine, admission, warm_up)
    return _post(engine, claude, admission, policy, clock)


def _go_after(
    engine: sa.Engine,
    claude: Claude,
    admission: Admission,
    gathered: Gathered,
    policy: SubmitPolicy,
    clock: Callable[[], float],
) -> Submitted:
    """Post a batch if there is room for it besides what was gathered, whose turn is before its own."""
    if admission.probing:
        with write(engine) as connection:
            lane_pauses.probe_again(connection, admission.probing, now())
    again = admit(engine, admission.batch.id, policy)
    went = _go(engine, claude, again, policy, clock) if again else None
    went = went or Submitted(BatchState.SEALED)
    return replace(went, replacements=(gathered.batch_id, *gathered.dissolved, *went.replacements))


def accept(
    engine: sa.Engine, batch_id: str, remote: RemoteBatch, in_doubt_at: int | None = None
) -> Submitted | None:
    """Commit Anthropic's id of a batch that was posted; return None if another process was faster.

    With `in_doubt_at` the batch is adopted: only its results, which name requests, will show whether it is really ours.
    """
    with write(engine) as connection:
        moved = transitions.accept(
            connection,
            batch_id,
            claude_id=remote.id,
            expires_at=remote.expires_by(now()),
            in_doubt_at=in_doubt_at,
            at=now(),
        )
        lifted = lane_pauses.lift(connection, batch_id) if moved else None
    if not moved:
        log.warning("batch made, but no longer submitting", batch=batch_id, claude_id=remote.id)
        return None
    if lifted:
        log.warning("lane resumed, as a batch of it was accepted", lane=lifted)
    return Submitted(BatchState.IN_PROGRESS)


def _explain_wait(engine: sa.Engine, batch_id: str, policy: SubmitPolicy) -> Submitted | None:
    # Once only: a batch that waits for room keeps the explanation until it is posted.
    with read(engine) as connection:
        batch = batches.get(connection, batch_id)
        if batch is None or batch.state != BatchState.SEALED or batch.due_at > now() or batch.last_error:
            return None
        if batch.lane in lane_pauses.by_lane(connection) or blocks(policy.windows, batch.submit_by, now()):
            return None
        if batch.id in batch_queue.warming(connection, now()):
            return None
        queued = batch_queue.queued(connection)[batch.account]
    why = waits_for_room(queued, policy.limit_of(batch.account))
    with write(engine) as connection:
        batches.annotate_sealed(connection, batch_id, batch.submissions, why)
    log.info("batch waits for room in the queue", batch=batch_id, reason=why)
    return Submitted(BatchState.SEALED, error=why)


def _split(engine: sa.Engine, admission: Admission, queue_limit: int) -> Submitted | None:
    why = f"{admission.batch.request_count:,} requests are more than queue_limit ({queue_limit:,}): split"
    with write(engine) as connection:
        if not _commit_intent(connection, admission.batch, Look(None, None, None)):
            return None
        halves = split(connection, admission.batch, why)
        if admission.probing:
            lane_pauses.probe_again(connection, admission.probing, now())
    return Submitted(BatchState.REJECTED, tuple(halves), why)


def _wait_for_warm_up(engine: sa.Engine, admission: Admission, warm_up: str) -> Submitted:
    if admission.probing:
        with write(engine) as connection:
            lane_pauses.probe_again(connection, admission.probing, now())  # the warm-up is the probe instead
    return Submitted(BatchState.SEALED, (warm_up,))


def _post(
    engine: sa.Engine,
    claude: Claude,
    admission: Admission,
    policy: SubmitPolicy,
    clock: Callable[[], float],
) -> Submitted | None:
    batch_id, headers = admission.batch.id, json.loads(admission.batch.headers)
    with spooled(engine, batch_id) as (body, length):
        fence = Fence(policy.submit_timeout, lambda: _is_ours(engine, admission.batch), clock)
        try:
            # This also finds a bad key before 240 MB are uploaded.
            seen = look(engine, claude, admission.batch, policy.doubt)
        except ClaudeError as error:
            return failures.defer(engine, admission, error)
        if not _intend(engine, claude, admission, seen, policy):
            return None
        if seen.suspect:
            return Submitted(BatchState.SUBMITTING, error=_suspicion(seen.suspect))
        try:
            remote = claude.create(body, length, headers, fence)
        except ClaudeError as error:
            return failures.resolve(engine, admission, error)
    if accepted := accept(engine, batch_id, remote):
        return accepted
    orphans.withdraw(engine, claude, admission.batch, remote)
    return None


def _is_ours(engine: sa.Engine, batch: Batch) -> bool:
    with read(engine) as connection:
        return in_doubt.is_submitting(connection, batch.id, batch.submissions + 1)


def _intend(
    engine: sa.Engine, claude: Claude, admission: Admission, seen: Look, policy: SubmitPolicy
) -> bool:
    # Admitted again, under a lock, so that two submitters don't both take the same room.
    with write(engine) as connection:
        batch_queue.lock_queue(connection)
        if admission.batch.id not in admitted(connection, now(), policy, admission.probing):
            return False
        poster = recognition.register(connection, claude, json.loads(admission.batch.headers))
        if not _commit_intent(connection, admission.batch, seen, poster):
            return False
        if seen.suspect:  # it is not posted: the rescuer finds out whether this is it
            in_doubt.begin(connection, admission.batch.id, _suspicion(seen.suspect), now())
        served.serve(connection, admission.batch, policy.weights)
        return True


def _commit_intent(connection: sa.Connection, batch: Batch, seen: Look, poster: str | None = None) -> bool:
    return transitions.submit(
        connection,
        batch,
        cursor_id=seen.cursor_id,
        cursor_at=seen.cursor_at,
        looked_at=seen.at,
        poster=poster,
        at=now(),
    )


def _suspicion(suspect: RemoteBatch) -> str:
    return f"in doubt: not posted, as {suspect.id} at Anthropic may be this batch"
