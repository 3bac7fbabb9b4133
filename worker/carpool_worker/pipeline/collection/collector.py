"""Collects an ended batch's results: streams them and commits them in chunks.

A chunk's transaction contains everything that follows from its lines: the requests' final states and answers, their
usage and cost, and a delivery for each callback. A collector killed halfway starts over and skips what is done.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import sqlalchemy as sa

from carpool_worker.claude.client import Claude
from carpool_worker.claude.results import ReadResult, in_chunks, read_chunk
from carpool_worker.claude.times import seconds_between
from carpool_worker.database import now, read, write
from carpool_worker.exceptions import RESULTS_GONE, ClaudeError, ResultsCut
from carpool_worker.formatting import counted
from carpool_worker.models import Batch
from carpool_worker.pipeline.collection import second_answers
from carpool_worker.pipeline.collection.conclusions import Conclusions, conclude
from carpool_worker.pipeline.collection.evidence import Evidence
from carpool_worker.pipeline.collection.held_failures import HeldFailures
from carpool_worker.pipeline.collection.replies import Replies, packed
from carpool_worker.policies.retries import CollectPolicy, after_results
from carpool_worker.states import BatchState
from carpool_worker.store import usage
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.batches import transitions
from carpool_worker.store.requests import endings, staging
from carpool_worker.store.requests import rows as requests
from carpool_worker.store.requests.endings import discard
from carpool_worker.store.requests.segments import AnswersSegment
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import SECOND, Milliseconds, after

log = get_logger(__name__)

MISSING_CHUNK = 500
"""Requests discarded in one transaction when their answers can't be had."""

MISSING = ClaudeError("The results have no readable line for this request.", kind="result_missing")
GONE = ClaudeError(
    "The results of the batch were deleted or archived before they could be collected.", kind=RESULTS_GONE
)
"""The errors of requests whose answers are lost, though they may have been paid for."""

Announce = Callable[[Sequence[str], Replies], None]
"""Called after each commit with the ids of the requests that reached a final state in it, and with their answers for
the reply lists that they name."""

RACES = 5
"""Tries to commit a chunk, as another collector may have minted the same id for a segment."""


def collect(
    engine: sa.Engine, claude: Claude, batch_id: str, policy: CollectPolicy, announce: Announce
) -> bool:
    """Collect one ended batch; return whether it is completed now.

    Called by the task `carpool.collect`, under the batch's lock, once the poller has found it ended. Each chunk of
    lines is committed with all that follows from it, and announced afterwards; at the end the batch is completed. A
    crash, a stream that is cut short, or one that is not plainly these results, leaves the batch `ended` and its other
    requests waiting: the next call reads the results again and takes only those. Requests without a line are discarded
    once a second, later read has none for them either. A batch that the rescuer adopted by mistake is released, and
    the search for the right one continues.
    """
    with read(engine) as connection:
        batch = batches.get(connection, batch_id)
    if batch is None or batch.state != BatchState.ENDED or batch.due_at > now():
        return False
    try:
        return _collect_results(engine, claude, batch, policy, announce)
    except (ClaudeError, ResultsCut) as error:
        wait = after_results(error, seconds_between(batch.ended_at, claude.answered_at))
        if wait is None:
            return _complete(engine, batch.id, GONE, announce)
        _read_again_later(engine, batch.id, wait, error)
        return False


def _collect_results(
    engine: sa.Engine, claude: Claude, batch: Batch, policy: CollectPolicy, announce: Announce
) -> bool:
    seen, held = Evidence(), HeldFailures()
    for chunk in in_chunks(claude.results(str(batch.claude_id), json.loads(batch.headers))):
        found = read_chunk(chunk)
        if not seen.sample and _is_anothers(engine, batch, [*found.succeeded, *found.others]):
            _confirm(engine, claude, batch, policy, "the results name none of its requests")
            _release(engine, batch)
            return False
        seen.add(found)
        _take(engine, batch, found.succeeded, policy, announce)
        for failures in held.add(found):
            _take(engine, batch, failures, policy, announce)
    for failures in held.release():
        _take(engine, batch, failures, policy, announce)
    if missing := _count_missing(engine, claude, batch, seen):
        _confirm(engine, claude, batch, policy, f"{counted(missing, 'request')} without a result")
    return _complete(engine, batch.id, MISSING, announce)


def _count_missing(engine: sa.Engine, claude: Claude, batch: Batch, seen: Evidence) -> int:
    """Return how many requests have no result.

    Raises:
        ResultsCut: some have none, but what was read is not plainly the results of this batch.
        ClaudeError: how many there should be can't be asked.
    """
    with read(engine) as connection:
        missing = requests.count_pending(connection, batch.id)
        names_ours = bool(requests.known(connection, seen.sample))
    if not missing:
        return 0
    # One that was adopted may have more requests at Anthropic than those of them that it brought: see adopter.py.
    posted = claude.retrieve(str(batch.claude_id), json.loads(batch.headers)).request_count
    if objection := seen.objection(max(batch.request_count, posted or 0)):
        raise ResultsCut(objection)
    if not names_ours:
        raise ResultsCut("the results name none of its requests")
    return missing


def _confirm(engine: sa.Engine, claude: Claude, batch: Batch, policy: CollectPolicy, lack: str) -> None:
    """Return if an earlier read has shown the same lack; what an absence leads to can't be undone.

    Raises:
        ResultsCut: it has not, or only just now.
    """
    at = Milliseconds(claude.answered_at or now())
    if policy.settle_interval <= seconds_between(batch.incomplete_at or at, at):
        return
    with write(engine) as connection:
        batches.note_incomplete(connection, batch.id, at)
    raise ResultsCut(f"{lack}: read again to be sure", retry_after=policy.settle_interval)


def _take(
    engine: sa.Engine,
    batch: Batch,
    results: dict[str, ReadResult],
    policy: CollectPolicy,
    announce: Announce,
) -> None:
    if results:
        announce(*_commit(engine, batch, results, policy))


def _complete(engine: sa.Engine, batch_id: str, lost: ClaudeError, announce: Announce) -> bool:
    """Complete the batch; requests that still wait in it are discarded with the error `lost`."""
    announce(_discard_waiting(engine, batch_id, lost), {})
    with write(engine) as connection:
        return transitions.complete(connection, batch_id, now())


def _commit(
    engine: sa.Engine, batch: Batch, results: dict[str, ReadResult], policy: CollectPolicy
) -> tuple[list[str], Replies]:
    for _ in range(RACES - 1):
        try:
            return _try_to_commit(engine, batch, results, policy)
        except sa.exc.IntegrityError:
            log.info("raced by another collector, trying again", batch=batch.id, requests=len(results))
    return _try_to_commit(engine, batch, results, policy)


def _try_to_commit(
    engine: sa.Engine, batch: Batch, results: dict[str, ReadResult], policy: CollectPolicy
) -> tuple[list[str], Replies]:
    at = now()
    day = datetime.fromtimestamp((batch.ended_at or at) / SECOND, UTC).date()
    with write(engine) as connection:
        waiting = requests.pending(connection, batch.id, list(results))
        stopped = batch.stopped_at is not None
        conclusions = conclude(results, waiting.values(), policy, day=day, at=at, stopped=stopped)
        second_answers.leave_to_calls(connection, conclusions)
        stored = _record(connection, batch.id, conclusions, at)
        if len(waiting) < len(results):
            second_answers.bill(connection, batch.id, results, day, at)
    return [one.id for one in conclusions.endings], packed(
        stored, conclusions.endings, waiting, batch.claude_id, at
    )


def _record(
    connection: sa.Connection, batch_id: str, conclusions: Conclusions, at: int
) -> list[AnswersSegment]:
    stored = endings.finish(connection, conclusions.endings, at, batch_id)
    staging.reschedule(connection, conclusions.rescheduled, batch_id)
    usage.add(connection, conclusions.used.values())
    if conclusions.is_priced:
        batches.add_cost(connection, batch_id, conclusions.cost, conclusions.list_price)
    return stored


def _is_anothers(engine: sa.Engine, batch: Batch, custom_ids: Sequence[str]) -> bool:
    # A batch that the rescuer adopted may be another's, made in the same second with as many requests. Then its results
    # name no request that waits in ours, and none of ours was collected before. A batch whose id came with the answer
    # to its post is always ours.
    if batch.in_doubt_at is None or not custom_ids:
        return False
    with read(engine) as connection:
        named = requests.pending(connection, batch.id, custom_ids)
        return not named and requests.count_pending(connection, batch.id) == batch.request_count


def _release(engine: sa.Engine, batch: Batch) -> None:
    log.warning("adopted batch disowned", batch=batch.id, claude_id=batch.claude_id)
    with write(engine) as connection:
        transitions.release(connection, batch, now())


def _discard_waiting(engine: sa.Engine, batch_id: str, error: ClaudeError) -> list[str]:
    # They may have been run and paid for, so none is sent again.
    discarded: list[str] = []
    while True:
        with write(engine) as connection:
            waiting = requests.pending_ids(connection, batch_id, MISSING_CHUNK)
            left = second_answers.left_to_calls(connection, batch_id, waiting)
            ids = discard(connection, batch_id, [one for one in waiting if one not in left], error, now())
        if not waiting:
            return discarded
        log.error("requests without a result discarded", batch=batch_id, count=len(ids), error=str(error))
        discarded += ids


def _read_again_later(engine: sa.Engine, batch_id: str, wait: float, error: ClaudeError | ResultsCut) -> None:
    log.warning("results not read", batch=batch_id, seconds=wait, error=str(error))
    with write(engine) as connection:
        batches.delay_collection(connection, batch_id, after(now(), wait), str(error))
