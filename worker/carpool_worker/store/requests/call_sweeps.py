"""SQL about calls that nobody makes any longer: their requests go back into the pool, end, or wait for their batch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal

import sqlalchemy as sa

from carpool_worker import transition_log
from carpool_worker.models.indexes import UNFINISHED_CALLS
from carpool_worker.models.tables import real_time_calls, requests
from carpool_worker.states import RESCHEDULE, CallState, RequestState
from carpool_worker.store.requests.call_claims import NO_DEADLINE
from carpool_worker.store.requests.calls import KnownCall, known
from carpool_worker.store.requests.rows import REAL_TIME, among
from carpool_worker.units import DOLLAR, Milliseconds

row = real_time_calls.c


def suspects(connection: sa.Connection, at: Milliseconds, limit: int) -> list[KnownCall]:
    """Return calls whose caller has not been heard of when it should have."""
    silent = known().where(UNFINISHED_CALLS, row.state == CallState.CALLING, row.lease_until < at)
    return [KnownCall._make(one) for one in connection.execute(silent.limit(limit))]


def suspect(connection: sa.Connection, calls: Sequence[KnownCall], at: Milliseconds) -> None:
    """Record when these callers were first not heard of."""
    ids = [one.request_id for one in calls]
    silent = sa.update(real_time_calls).where(
        among(connection, ids, row.request_id), row.state == CallState.CALLING, row.lease_until < at
    )
    connection.execute(silent.where(row.suspected_at.is_(None)).values(suspected_at=at))


def overdue(connection: sa.Connection, at: Milliseconds, limit: int) -> list[KnownCall]:
    """Return available calls whose deadline has passed."""
    late = known().where(
        UNFINISHED_CALLS, row.state == CallState.AVAILABLE, row.deadline != NO_DEADLINE, row.deadline <= at
    )
    return [KnownCall._make(one) for one in connection.execute(late.limit(limit))]


def available_of(connection: sa.Connection, clients: Collection[str], limit: int) -> list[KnownCall]:
    """Return available calls of these clients."""
    theirs = known().where(UNFINISHED_CALLS, row.state == CallState.AVAILABLE, row.client.in_(clients))
    return [KnownCall._make(one) for one in connection.execute(theirs.limit(limit))]


def clients(connection: sa.Connection) -> set[str]:
    """Return the clients with available calls."""
    available = sa.select(row.client).where(UNFINISHED_CALLS, row.state == CallState.AVAILABLE)
    return set(connection.scalars(available.distinct()))


def needless(connection: sa.Connection, limit: int) -> list[KnownCall]:
    """Return available calls of requests that have ended, or are to be canceled."""
    over = sa.or_(requests.c.finished_at.is_not(None), requests.c.cancel_requested_at.is_not(None))
    found = known().join(requests, requests.c.id == row.request_id)
    canceled = found.where(UNFINISHED_CALLS, row.state == CallState.AVAILABLE, over)
    return [KnownCall._make(one) for one in connection.execute(canceled.limit(limit))]


def under_way(connection: sa.Connection, ids: Sequence[str]) -> list[str]:
    """Return those of these requests, locked, that a call may still answer."""
    active = sa.select(row.request_id).where(among(connection, ids, row.request_id), UNFINISHED_CALLS)
    return list(connection.scalars(active))


def leave_to_calls(connection: sa.Connection, ids: Sequence[str]) -> None:
    """Take locked requests out of a batch that has not answered them: their calls decide."""
    batched = sa.update(requests).where(among(connection, ids), requests.c.state == RequestState.BATCHED)
    connection.execute(batched.values(batch_id=REAL_TIME))
    alone = sa.update(real_time_calls).where(among(connection, ids, row.request_id), UNFINISHED_CALLS)
    connection.execute(alone.values(batch_id=None))


def put_back(connection: sa.Connection, call: KnownCall, at: Milliseconds) -> bool:
    """Make a locked request retryable that waited for this call alone: the stager puts it into a batch.

    What it has reserved for the full price is free again, and the attempt does not count.
    """
    added, waits = Decimal(call.added) / DOLLAR, requests.c
    alone = sa.update(requests).where(
        among(connection, [call.request_id]),
        waits.batch_id == REAL_TIME,
        waits.state.in_(RESCHEDULE.sources),
    )
    moved = connection.execute(
        alone.values(
            state=RESCHEDULE.target,
            retry_at=at,
            attempt=waits.attempt - 1,
            estimate=waits.estimate - added,
        )
    ).rowcount
    transition_log.record_many(connection, f"requests {RESCHEDULE.target}", moved, move="return")
    return bool(moved)
