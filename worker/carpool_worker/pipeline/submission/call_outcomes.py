"""Commits what became of a call in real time: its answer with the money, the end of its request, or another try.

Each is one transaction, which locks the request before the call and changes nothing if the call is no longer its
caller's: then somebody else has told the client already.
"""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime

import sqlalchemy as sa

from carpool_worker import transition_log
from carpool_worker.claude.messages import DirectMessage
from carpool_worker.database import now, write
from carpool_worker.exceptions import ClaudeError
from carpool_worker.pipeline.collection.collector import Announce
from carpool_worker.pipeline.collection.conclusions import conclude, second_use
from carpool_worker.pipeline.collection.replies import Replies, packed
from carpool_worker.policies.real_time import AfterCall, after_call, backoff
from carpool_worker.policies.retries import CollectPolicy, probe_delay
from carpool_worker.states import DISCARD, CallState
from carpool_worker.store import usage
from carpool_worker.store.batches import lane_pauses
from carpool_worker.store.requests import call_money, call_sweeps, calls, endings
from carpool_worker.store.requests import rows as requests
from carpool_worker.store.requests.call_claims import ClaimedCall
from carpool_worker.store.requests.calls import KnownCall
from carpool_worker.store.requests.endings import Ending
from carpool_worker.store.requests.rows import REAL_TIME, Pending
from carpool_worker.store.usage import REAL_TIME as AT_FULL_PRICE
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import SECOND, Milliseconds, Picodollars, after

log = get_logger(__name__)

ANSWER_LOST = "answer_lost"
"""The error type of a request whose call may have been made: its answer can't be had, and nobody makes it again."""

LOST = (
    "The answer to this request's real-time call was lost ({error}). It may have run and been billed; it was not sent "
    "again, as that could be a second bill."
)

ONCE = CollectPolicy(max_attempts=1, retry_interval=1.0)
"""An answer to a call is final."""


def record_answer(engine: sa.Engine, call: ClaimedCall, answered: DirectMessage, announce: Announce) -> None:
    """Commit the answer to a call: its request's end, its delivery, usage and cost.

    If the request's batch has answered it already, this answer is dropped and paid for; so is one that comes when the
    call counts as lost.
    """
    at = now()
    day = datetime.fromtimestamp(at / SECOND, UTC).date()
    ended: list[str] = []
    replies: Replies = {}
    with write(engine) as connection:
        waiting = requests.pending(connection, None, [call.request_id])
        known = calls.lock(connection, call.request_id, call.round)
        if known is None or not waiting or not _is_ours(known, call):
            _bill_in_vain(connection, call, known, answered, day, at)
            return
        conclusions = conclude(
            {call.request_id: answered.result},
            waiting.values(),
            ONCE,
            day=day,
            at=at,
            processing=AT_FULL_PRICE,
        )
        if known.batch_id is not None:
            requests.transfer(connection, [call.request_id], REAL_TIME)
        stored = endings.finish(connection, conclusions.endings, at)
        usage.add(connection, conclusions.used.values())
        cost = conclusions.endings[0].cost
        calls.answer(
            connection,
            known,
            claude_id=answered.message_id,
            cost=None if cost is None else Picodollars(cost),
            at=at,
        )
        ended = [one.id for one in conclusions.endings]
        replies = packed(stored, conclusions.endings, waiting, None, at, AT_FULL_PRICE)
    announce(ended, replies)


def record_failure(engine: sa.Engine, call: ClaimedCall, error: ClaudeError, announce: Announce) -> None:
    """Commit what follows from a call that was not answered: see policies/real_time.py."""
    decision = after_call(error, has_betas="anthropic-beta" in {name.lower() for name in call.headers})
    ended: list[str] = []
    with write(engine) as connection:
        waiting = requests.pending(connection, None, [call.request_id])
        known = calls.lock(connection, call.request_id, call.round)
        if known is None or not _is_ours(known, call):
            return
        at = now()
        request = waiting.get(call.request_id)
        if decision is AfterCall.AGAIN:
            _again(connection, call, known, error, at)
        elif decision is AfterCall.LOSE:
            ended = lose(connection, known, request, str(error), at)
        elif decision is AfterCall.REFUSE:
            ended = _refuse(connection, known, request, error, at)
        else:
            if decision is AfterCall.PAUSE:
                _pause(connection, call, error, at)
            return_to_pool(connection, known, str(error), at)
    if ended:
        announce(ended, {})


def lose(
    connection: sa.Connection, call: KnownCall, request: Pending | None, error: str, at: Milliseconds
) -> list[str]:
    """Give up a locked call whose answer is lost; return the request's id if that ends it.

    A request that is in a batch at Anthropic as well waits for that.
    """
    calls.lose(connection, call, error, at)
    if call.batch_id is not None or request is None:
        return []
    end = Ending.failed(request, ANSWER_LOST, LOST.format(error=error))
    if request.cancel_requested_at:
        end = end.dropped()
    endings.finish(connection, [end], at)
    return [request.id]


def return_to_pool(connection: sa.Connection, call: KnownCall, why: str, at: Milliseconds) -> None:
    """End a locked call that is not made; its request, locked before, waits for a batch, or for the one it is in."""
    if calls.return_(connection, call, why, at) and call.batch_id is None:
        call_sweeps.put_back(connection, call, at)


def _is_ours(known: KnownCall, call: ClaimedCall) -> bool:
    return known.state is CallState.CALLING and known.caller == call.caller


def _again(
    connection: sa.Connection, call: ClaimedCall, known: KnownCall, error: ClaudeError, at: Milliseconds
) -> None:
    due_at = after(at, backoff(call.submissions, error.retry_after))
    if call.has_deadline and due_at >= call.deadline:
        return_to_pool(connection, known, f"no time for another call: {error}", at)
    else:
        calls.postpone(connection, known, str(error), due_at)


def _refuse(
    connection: sa.Connection, known: KnownCall, request: Pending | None, error: ClaudeError, at: Milliseconds
) -> list[str]:
    calls.refuse(connection, known, str(error), at)
    if known.batch_id is not None or request is None:
        return []  # its batch says the same, at no cost
    end = Ending.failed(request, error.kind, str(error), DISCARD)
    if request.cancel_requested_at:
        end = end.dropped()
    endings.finish(connection, [end], at)
    return [request.id]


def _pause(connection: sa.Connection, call: ClaimedCall, error: ClaudeError, at: Milliseconds) -> None:
    probe_at = after(at, probe_delay(0))
    if lane_pauses.pause(connection, call.lane, str(error), at, probe_at):
        paused = {"lane": call.lane, "status": error.status, "error": str(error)}
        transition_log.record(connection, "lane paused by carpool", logging.ERROR, **paused)


def _bill_in_vain(
    connection: sa.Connection,
    call: ClaimedCall,
    known: KnownCall | None,
    answered: DirectMessage,
    day: date,
    at: Milliseconds,
) -> None:
    """Record the money for an answer that is dropped: its request has one, or ended as if there were none."""
    message = answered.result.parsed.message
    terms = requests.terms_of(connection, call.request_id)
    if known is None or message is None or terms is None:
        return
    used = second_use(answered.result, message, terms, day, AT_FULL_PRICE)
    cost = Picodollars(used.cost) if used.is_priced else None
    if _is_ours(known, call):
        calls.answer(connection, known, claude_id=answered.message_id, cost=cost, at=at)
    elif not calls.answer_late(connection, known, cost, answered.message_id):
        return
    usage.add(connection, [used])
    call_money.add_cost(connection, call.request_id, cost)
    log.warning("answer to a call dropped, but paid for", request=call.request_id, state=str(known.state))
