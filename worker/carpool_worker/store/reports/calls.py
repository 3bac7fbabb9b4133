"""SQL about calls in real time, for operators: what waits, what was lost, how long calls take, and how they were due.

Each reads few rows: by the index of unfinished calls, by that of lost ones, or of the newest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool_worker.models.indexes import LOST_CALLS, UNFINISHED_CALLS
from carpool_worker.models.tables import real_time_calls, requests
from carpool_worker.states import CallState
from carpool_worker.units import SECOND

NEWEST_CALLS = 1_000
"""Calls of which it is told how long they took."""

row = real_time_calls.c


class CallCount(NamedTuple):
    """Calls of an account ("": the default one) and a model in one state."""

    account: str
    model: str
    state: str
    calls: int


class CallTime(NamedTuple):
    """How long a call took that was answered."""

    account: str
    model: str
    seconds: float


class UrgentCall(NamedTuple):
    """A call that was answered; times are in milliseconds since the epoch, `deadline` is 0 if there was none."""

    client: str
    model: str
    enqueued_at: int
    queued_at: int
    deadline: int


def unfinished(connection: sa.Connection) -> list[CallCount]:
    """Return the calls that wait or are being made."""
    return _counted(connection, UNFINISHED_CALLS)


def lost_since(connection: sa.Connection, since: int) -> list[CallCount]:
    """Return the calls whose answer was lost since then, in milliseconds since the epoch."""
    return _counted(connection, LOST_CALLS, row.finished_at >= since)


def newest_times(connection: sa.Connection) -> list[CallTime]:
    """Return how long those of the newest calls took that were answered."""
    newest = _newest("account", "model", "state", "calling_at", "finished_at", most=NEWEST_CALLS)
    answered = sa.select(newest).where(newest.c.state == CallState.ANSWERED, newest.c.calling_at.is_not(None))
    return [
        CallTime(one.account, one.model, (one.finished_at - one.calling_at) / SECOND)
        for one in connection.execute(answered)
    ]


def answered_since(
    connection: sa.Connection, since: int, client: str | None, most: int
) -> Sequence[UrgentCall]:
    """Return those of the newest `most` calls that were answered and queued since then, perhaps of one client alone."""
    newest = _newest("request_id", "client", "model", "state", "queued_at", "deadline", most=most)
    answered = (
        sa.select(
            newest.c.client, newest.c.model, requests.c.enqueued_at, newest.c.queued_at, newest.c.deadline
        )
        .join(requests, requests.c.id == newest.c.request_id)
        .where(newest.c.state == CallState.ANSWERED, newest.c.queued_at >= since)
    )
    if client is not None:
        answered = answered.where(newest.c.client == client)
    return [UrgentCall._make(one) for one in connection.execute(answered)]


def _newest(*names: str, most: int) -> sa.Subquery:
    # Ids are in the order of time, but for those of idempotency keys.
    columns = (row[name] for name in names)
    return sa.select(*columns).order_by(row.request_id.desc(), row.round.desc()).limit(most).subquery()


def _counted(connection: sa.Connection, *which: sa.ColumnElement[Any]) -> list[CallCount]:
    per = (row.account, row.model, row.state)
    counted = sa.select(*per, sa.func.count()).where(*which).group_by(*per)
    return [
        CallCount(account, model, str(state), count)
        for account, model, state, count in connection.execute(counted)
    ]
