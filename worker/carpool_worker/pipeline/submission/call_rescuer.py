"""Finds calls in real time that nobody makes any more: their requests end, go back into the pool, or are in doubt.

A caller that is gone leaves its calls `calling`. Whether they were made can't be found out, as no list at Anthropic has
them. So they are lost, which their clients are told; they are never made again.
"""

from __future__ import annotations

import sqlalchemy as sa

from carpool_worker.database import now, read, write
from carpool_worker.pipeline.collection.collector import Announce
from carpool_worker.pipeline.submission.call_outcomes import lose, return_to_pool
from carpool_worker.policies.real_time import SUSPICION, RealTimePolicy
from carpool_worker.states import CallState
from carpool_worker.store.requests import call_sweeps, calls, endings
from carpool_worker.store.requests import rows as requests
from carpool_worker.store.requests.calls import KnownCall
from carpool_worker.store.requests.endings import Ending
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import SECOND, Milliseconds

log = get_logger(__name__)

CHUNK_CALLS = 500
"""Calls looked at in one step."""


OVERDUE = "the deadline has passed, so the full price buys nothing"
WITHDRAWN = "there is no budget for real-time calls any more"
GONE = "no answer: its caller is gone"


def rescue_calls(engine: sa.Engine, announce: Announce, suspicion: float | None = None) -> list[str]:
    """Give up calls whose caller is gone; return the ids of the requests that this ends.

    The task `carpool.rescue` calls it. A caller that has not renewed its lease is suspected first, and given up
    `suspicion` seconds later (None: SUSPICION) unless it has renewed it: it may only have lacked the database for a
    while.
    """
    at = now()
    patience = SUSPICION if suspicion is None else suspicion
    with read(engine) as connection:
        silent = calls_suspected(connection, at)
    if not silent:
        return []
    with write(engine) as connection:
        call_sweeps.suspect(connection, silent, at)
    gone = [
        one for one in silent if one.suspected_at is not None and one.suspected_at + patience * SECOND <= at
    ]
    ended: list[str] = []
    for one in gone:
        with write(engine) as connection:
            ended += _give_up(connection, one)
    if ended:
        log.error("calls in real time lost with their caller", count=len(ended))
        announce(ended, {})
    return ended


def calls_suspected(connection: sa.Connection, at: Milliseconds) -> list[KnownCall]:
    """Return calls whose caller's lease is over."""
    return call_sweeps.suspects(connection, at, CHUNK_CALLS)


def tidy(engine: sa.Engine, policy: RealTimePolicy, announce: Announce) -> None:
    """Take out of the queue what need not be called, or may not any more.

    Requests that are to be canceled end; those whose deadline has passed, or whose client has no real-time budget any
    more, go back into the pool.
    """
    canceled: list[str] = []
    with read(engine) as connection:
        needless = call_sweeps.needless(connection, CHUNK_CALLS)
        overdue = call_sweeps.overdue(connection, now(), CHUNK_CALLS)
        unpaid = {client for client in call_sweeps.clients(connection) if not policy.allows(client)}
        withdrawn = call_sweeps.available_of(connection, unpaid, CHUNK_CALLS) if unpaid else []
    for one in needless:
        with write(engine) as connection:
            canceled += _cancel(connection, one)
    for some, why in ((overdue, OVERDUE), (withdrawn, WITHDRAWN)):
        for one in some:
            with write(engine) as connection:
                requests.pending(connection, None, [one.request_id])
                if known := _locked(connection, one, CallState.AVAILABLE):
                    return_to_pool(connection, known, why, now())
    if canceled:
        announce(canceled, {})


def _give_up(connection: sa.Connection, call: KnownCall) -> list[str]:
    waiting = requests.pending(connection, None, [call.request_id])
    known = _locked(connection, call, CallState.CALLING)
    if known is None or known.suspected_at != call.suspected_at:
        return []  # answered, or its caller is back
    return lose(connection, known, waiting.get(call.request_id), GONE, now())


def _cancel(connection: sa.Connection, call: KnownCall) -> list[str]:
    request = requests.pending(connection, None, [call.request_id]).get(call.request_id)
    known = _locked(connection, call, CallState.AVAILABLE)
    if known is None:
        return []
    at = now()
    if request is None or known.batch_id is not None:
        calls.cancel(connection, known, at)
        return []
    if request.cancel_requested_at is None:
        return []
    calls.cancel(connection, known, at)
    endings.finish(connection, [Ending.canceled(request, has_expired=request.has_expired)], at)
    return [request.id]


def _locked(connection: sa.Connection, call: KnownCall, state: CallState) -> KnownCall | None:
    known = calls.lock(connection, call.request_id, call.round)
    return known if known is not None and known.state is state else None
