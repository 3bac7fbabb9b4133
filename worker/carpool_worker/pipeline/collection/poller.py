"""Asks Anthropic for the state of every batch that it has, and records which have ended.

A batch whose requests were all canceled here is canceled there too, so that what has not run yet costs nothing. One
that somebody canceled at Anthropic's console pauses its lane until an operator resumes it.
"""

from __future__ import annotations

import json
import logging
import random
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence

import sqlalchemy as sa

from carpool_worker import transition_log
from carpool_worker.claude.batch import LIFETIME, RemoteBatch
from carpool_worker.claude.client import Claude
from carpool_worker.claude.times import seconds_between
from carpool_worker.database import now, read, write
from carpool_worker.exceptions import ClaudeError
from carpool_worker.models import Batch
from carpool_worker.pipeline.collection import recognition
from carpool_worker.pipeline.collection.recognition import Seer
from carpool_worker.policies.polling import BatchAge, PollPolicy
from carpool_worker.policies.retries import is_gone
from carpool_worker.states import BatchState
from carpool_worker.store import durations
from carpool_worker.store.batches import lane_pauses, transitions
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.requests import cancellations
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import SECOND, Milliseconds

log = get_logger(__name__)

RETRIEVE_AT_MOST = 3
"""With more batches at Anthropic than this, one list call is cheaper than a retrieve for each."""

MISSING_AT_MOST = 20
"""Batches that are not in the list and are retrieved one by one, each time."""

LISTLESS_STATUSES = frozenset({404, 405, 501})
"""What a relay answers that has no list."""


def poll(engine: sa.Engine, claudes: Sequence[Claude]) -> list[str]:
    """Poll every batch that Anthropic has; return the ids of those that have ended.

    Called by the task `carpool.poll`, one process at a time, when `seconds_until_poll` says so, with a client for each
    key of each account. Each batch's new state is committed alone: `canceling`, or `ended` with its counts and how long
    it took, due to be collected. A crash, or a call that fails, leaves a batch for the next poll. A batch that is not
    there counts as ended only once nobody could read its results any more; one that no key may see waits.
    """
    with read(engine) as connection:
        out, unwanted = batches.out(connection), cancellations.unwanted(connection)
    return [batch_id for group in _groups(out) for batch_id in _poll_group(engine, claudes, group, unwanted)]


def _poll_group(
    engine: sa.Engine, claudes: Sequence[Claude], group: Sequence[Batch], unwanted: Collection[str]
) -> Iterator[str]:
    """Poll batches that one key posted, with the first client that may see them; yield those that have ended."""
    left = {batch.id: batch for batch in group}
    answered = False
    for seer in recognition.seers(engine, claudes, group[0]):
        try:
            for batch, remote in _remote_batches(seer, list(left.values())):
                if not seer.is_known or batch.poster is None:
                    seer = recognition.saw(engine, seer, batch)
                del left[batch.id]
                recognition.record_seen(engine, [batch])
                if _advance(engine, seer.claude, batch, remote, batch.id in unwanted):
                    yield batch.id
        except ClaudeError as error:
            log.warning("batches not polled", count=len(left), status=error.status, error=str(error))
            if error.status not in recognition.BLIND_STATUSES:
                return  # that says nothing about who may see them
        answered = seer.is_known and not seer.claude.refused
        if answered or not left:
            break
    if answered:
        recognition.record_seen(engine, left.values())
    else:
        recognition.record_unseen(engine, left.values())


def _advance(engine: sa.Engine, claude: Claude, batch: Batch, remote: RemoteBatch, unwanted: bool) -> bool:
    if unwanted and remote.processing_status == "in_progress":
        remote = _cancel(claude, batch, remote)
    at = Milliseconds(claude.answered_at or now())
    return _apply(engine, batch, remote, at, is_unwanted=unwanted)


def seconds_until_poll(engine: sa.Engine, policy: PollPolicy) -> float | None:
    """Return the seconds until a batch is expected to have ended; None if Anthropic has none."""
    at = now()
    with read(engine) as connection:
        out = batches.out(connection)
        learned = durations.load(connection, {batch.model for batch in out})
    posted = [(batch.model, Milliseconds(batch.in_progress_at or at)) for batch in out]
    return policy.seconds_until_poll(
        BatchAge((at - posted_at) / SECOND, learned.of(model, posted_at)) for model, posted_at in posted
    )


def _groups(out: Sequence[Batch]) -> Sequence[list[Batch]]:
    # The headers may name a workspace, and the API shows a batch only to its own.
    groups: defaultdict[tuple[str | None, ...], list[Batch]] = defaultdict(list)
    for batch in out:
        groups[batch.account, batch.poster, batch.headers].append(batch)
    return list(groups.values())


def _remote_batches(seer: Seer, out: Sequence[Batch]) -> Iterable[tuple[Batch, RemoteBatch]]:
    wanted = {batch.claude_id: batch for batch in out}
    if len(wanted) > RETRIEVE_AT_MOST:
        oldest = min(batch.expires_at or 0 for batch in out) - LIFETIME
        for remote in _listed(seer.claude, json.loads(out[0].headers)):
            if batch := wanted.pop(remote.id, None):
                yield batch, remote
            if not wanted or (remote.created_at or oldest) < oldest:
                break
    # Few of those that the list does not show, another few at each poll: they may be many, and not be there for weeks.
    most = MISSING_AT_MOST if seer.is_known else RETRIEVE_AT_MOST
    for batch in random.sample(list(wanted.values()), min(most, len(wanted))):
        if retrieved := _retrieve(seer.claude, batch):
            yield batch, retrieved


def _listed(claude: Claude, headers: dict[str, str]) -> Iterator[RemoteBatch]:
    try:
        yield from claude.list_newest(headers)
    except ClaudeError as error:
        if error.status not in LISTLESS_STATUSES:
            raise  # a relay may have no list; what it has can be retrieved


def _retrieve(claude: Claude, batch: Batch) -> RemoteBatch | None:
    claude_id = str(batch.claude_id)
    try:
        return claude.retrieve(claude_id, json.loads(batch.headers))
    except ClaudeError as error:
        if is_gone(error, seconds_between(batch.expires_at, claude.answered_at) + LIFETIME / SECOND):
            log.error("batch gone before its results were collected", batch=batch.id, claude_id=claude_id)
            return _ended_unseen(batch, claude_id)
        log.warning(
            "batch not polled", batch=batch.id, claude_id=claude_id, status=error.status, error=str(error)
        )
        return None


def _ended_unseen(batch: Batch, claude_id: str) -> RemoteBatch:
    expired_at = Milliseconds(batch.expires_at or 0)
    return RemoteBatch(
        id=claude_id,
        processing_status="ended",
        request_count=batch.request_count,
        succeeded=0,
        errored=0,
        canceled=0,
        expired=0,
        created_at=expired_at,
        expires_at=expired_at,
    )


def _cancel(claude: Claude, batch: Batch, remote: RemoteBatch) -> RemoteBatch:
    # If the answer is lost, the next poll cancels again: that is harmless.
    log.info("canceling a batch nobody wants", batch=batch.id, claude_id=remote.id)
    try:
        return claude.cancel(remote.id, json.loads(batch.headers))
    except ClaudeError as error:
        log.warning("batch not canceled", batch=batch.id, claude_id=remote.id, error=str(error))
        return remote


def _apply(
    engine: sa.Engine, batch: Batch, remote: RemoteBatch, at: Milliseconds, *, is_unwanted: bool
) -> bool:
    with write(engine) as connection:
        if remote.processing_status == "canceling":
            transitions.cancel(connection, batch.id)
        is_new = batch.state == BatchState.IN_PROGRESS and not is_unwanted
        if is_new and (remote.processing_status == "canceling" or remote.canceled_at):
            _stop_lane(connection, batch, at)
        if remote.processing_status != "ended":
            return False
        ended = transitions.end(
            connection,
            batch.id,
            succeeded=remote.succeeded,
            errored=remote.errored,
            canceled=remote.canceled,
            expired=remote.expired,
            at=at,
        )
        if ended and remote.ended_at and remote.created_at and not remote.canceled:
            # by Anthropic's clock alone, so that it does not depend on when it was polled
            took = Milliseconds(remote.ended_at - remote.created_at)
            durations.learn(connection, batch.model, Milliseconds(batch.in_progress_at or at), took)
        return ended


def _stop_lane(connection: sa.Connection, batch: Batch, at: Milliseconds) -> None:
    # Whoever cancels a batch at Anthropic wants an end to something: what it has not run must not run at once.
    batches.note_stopped(connection, batch.id, at)
    why = f"batch {batch.claude_id} was canceled at Anthropic's console; once resumed, the rest of it runs again"
    if lane_pauses.stop(connection, batch.lane, str(batch.claude_id), why, now()):
        transition_log.record(connection, "lane paused by carpool", logging.ERROR, lane=batch.lane, error=why)
