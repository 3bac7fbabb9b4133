"""Explains in plain words what a batch waits for, from its row and the queue around it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from carpool_worker.database import now
from carpool_worker.formatting import clock, counted
from carpool_worker.models import Batch, LanePause
from carpool_worker.pipeline.batching import deadlines
from carpool_worker.pipeline.submission.admission import admitted
from carpool_worker.policies.accounts import shown
from carpool_worker.policies.admission import SubmitPolicy
from carpool_worker.policies.in_doubt import DoubtPolicy
from carpool_worker.policies.limits import Limits
from carpool_worker.policies.windows import LEAD, Opening, next_opening
from carpool_worker.settings import Settings
from carpool_worker.states import QUEUED_BATCH_STATES, BatchState
from carpool_worker.store.batches import lane_pauses, witnesses
from carpool_worker.store.batches import queue as batch_queue
from carpool_worker.store.batches import rows as batches
from carpool_worker.views.turns import BatchTurn, queues


@dataclass(frozen=True, slots=True)
class QueueContext:
    """What every batch's wait depends on, at a moment (`at`, milliseconds since the epoch)."""

    at: int
    limits: Limits
    doubt_policy: DoubtPolicy
    submit_policy: SubmitPolicy
    queued: Mapping[str | None, int]  # requests at Anthropic, by account
    pauses: Mapping[str, LanePause]
    admitted: Collection[str]  # ids of the batches that may be posted now
    opening: Opening | None = None  # of the windows, where they are closed
    warming: Collection[str] = ()  # ids of the batches that wait for their warm-up
    urgent: Mapping[str, int] = field(default_factory=dict)  # when open batches have to leave for a deadline
    turns: Mapping[str, BatchTurn] = field(default_factory=dict)  # by batch, where there is not room for all
    fresh: Collection[str] = ()  # ids of batches in workspaces where no list has shown a batch of ours yet


def queue_context(connection: sa.Connection, settings: Settings) -> QueueContext:
    """Return what every batch's wait depends on now, from the tables and the settings."""
    at, limits = now(), settings.limits
    submitting = batches.in_states(connection, [BatchState.SUBMITTING])
    return QueueContext(
        at=at,
        limits=limits,
        doubt_policy=settings.doubt_policy,
        submit_policy=settings.submit_policy,
        queued=batch_queue.queued(connection),
        pauses=lane_pauses.by_lane(connection),
        admitted=admitted(connection, at, settings.submit_policy),
        warming=batch_queue.warming(connection, at),
        opening=next_opening(limits.windows, at),
        urgent=deadlines.leave_at(connection, limits.deadlines),
        turns=queues(connection, settings).batches,
        fresh=witnesses.in_fresh_workspaces(connection, submitting),
    )


def waits_for(batch: Batch, context: QueueContext) -> str:
    """Return what a batch waits for, as 'room: 180,000 of 200,000 requests are queued at Anthropic'; '' if it ended."""
    if batch.unseen_since is not None and batch.state in SEEN_STATES:
        return _unseen(batch, context)
    explain = REASONS.get(batch.state)
    return explain(batch, context) if explain else ""


def _unseen(batch: Batch, context: QueueContext) -> str:
    since = clock(batch.unseen_since or 0, context.at)
    return f"an API key that may see it: account {shown(batch.account)} has had none since {since} (carpool doctor)"


def _open(batch: Batch, context: QueueContext) -> str:
    room = context.limits.count - batch.request_count
    sealed_at = context.limits.due_at(batch.opened_at)
    urgent_at = context.urgent.get(batch.id, sealed_at)
    until = clock(min(sealed_at, _leaves_at(batch) or sealed_at, urgent_at), context.at)
    why = f" (its deadline is {clock(batch.deadline, context.at)})" if batch.deadline else ""
    return f"more requests: until {until}{why}, or {room:,} more"


def _sealed(batch: Batch, context: QueueContext) -> str:
    if pause := context.pauses.get(batch.lane):
        if pause.by_operator:
            by = " by an operator" if pause.is_by_hand else ""
            return f"its lane, paused{by}: {pause.reason} (until it is resumed)"
        return f"its lane, paused: {pause.reason} (asked again at {clock(pause.probe_at, context.at)})"
    if batch.due_at > context.at:
        return f"a back-off, until {clock(batch.due_at, context.at)}: {batch.last_error or 'no reason known'}"
    if batch.id in context.warming:
        return (
            f"its warm-up batch {batch.warm_up_id}, until {clock(batch.warm_until or 0, context.at)} at most"
        )
    if window := _closed_window(batch, context):
        return window
    if batch.id not in context.admitted:
        queued, limit = context.queued.get(batch.account, 0), context.submit_policy.limit_of(batch.account)
        room = f"{queued:,} of {counted(limit, 'request is', 'requests are')} queued at Anthropic"
        return f"room: {room}{_turn(batch, context)}"
    return "a worker to post it"


def _turn(batch: Batch, context: QueueContext) -> str:
    turn = context.turns.get(batch.id)
    if turn is None:
        return ""
    before = f"{counted(turn.before, 'batch', 'batches')} before it" if turn.before else "it is next"
    return f"; {before}, {turn.client}'s turn" if turn.client else f"; {before}"


def _closed_window(batch: Batch, context: QueueContext) -> str:
    leaves_at = _leaves_at(batch)
    if context.opening is None or (leaves_at is not None and leaves_at <= context.at):
        return ""
    opens_at, window = context.opening
    if leaves_at is not None and leaves_at < opens_at:
        return f"the end of its max_wait: it leaves at {clock(leaves_at, context.at)}, outside submit_windows"
    return f"the window at {clock(opens_at, context.at)} ({window.text})"


def _leaves_at(batch: Batch) -> int | None:
    return None if batch.submit_by is None else batch.submit_by - LEAD


def _submitting(batch: Batch, context: QueueContext) -> str:
    is_fresh = batch.id in context.fresh
    settled = context.doubt_policy.gives_up_at(batch, is_fresh)
    if settled <= context.at:
        return (
            "Anthropic's list: a batch there may be this one, as its results will show, or the list can't be read or "
            f"believed ({batch.last_error or 'no reason known'})"
        )
    until = f"until {clock(settled, context.at)}, then it is sent again"
    if is_fresh:
        until += (
            " (so late as the list has not shown any batch of ours yet; `carpool batches resolve` decides it)"
        )
    if batch.in_doubt_at is None:
        return f"the answer to its post; should that be lost, Anthropic's list {until}"
    return f"Anthropic's list to show whether it was made, {until}"


def _in_progress(batch: Batch, context: QueueContext) -> str:
    until = f", until {clock(batch.expires_at, context.at)} at most" if batch.expires_at else ""
    adopted = (
        " (taken for this batch by its size; its results will show whether it is)"
        if batch.in_doubt_at
        else ""
    )
    return f"Anthropic{until}{adopted}"


def _canceling(batch: Batch, context: QueueContext) -> str:
    return "Anthropic to end it: it was canceled, what has run is kept"


def _ended(batch: Batch, context: QueueContext) -> str:
    if batch.due_at > context.at:
        return (
            f"its results, read again at {clock(batch.due_at, context.at)}: {batch.last_error or 'cut short'}"
        )
    return "a worker to collect its results"


SEEN_STATES = (*QUEUED_BATCH_STATES, BatchState.ENDED)
"""In these a batch waits for what Anthropic says of it, to a key that may see it."""

REASONS: Mapping[BatchState, Callable[[Batch, QueueContext], str]] = {
    BatchState.OPEN: _open,
    BatchState.SEALED: _sealed,
    BatchState.SUBMITTING: _submitting,
    BatchState.IN_PROGRESS: _in_progress,
    BatchState.CANCELING: _canceling,
    BatchState.ENDED: _ended,
}
