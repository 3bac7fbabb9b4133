"""SQL about who makes which call in real time. A claim commits the intent, and is good as long as its lease is renewed.

It locks calls alone, and passes over those that others have locked.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool_worker import database
from carpool_worker.models.indexes import UNFINISHED_CALLS
from carpool_worker.models.tables import real_time_calls, requests, segments
from carpool_worker.states import CALL, CallState
from carpool_worker.store.requests.calls import move
from carpool_worker.store.requests.rows import among
from carpool_worker.units import Milliseconds

CALL_LOCK = 0x63616C6C
"""PostgreSQL's advisory lock on claims of calls: they count how many are under way."""

NO_DEADLINE = 0

row = real_time_calls.c


class ClaimedCall(NamedTuple):
    """A call to be made: by whom, for which request, with what. It counts only while the tables have this caller."""

    request_id: str
    round: int
    caller: str
    submissions: int
    batch_id: str | None
    lane: str
    model: str
    account: str | None
    headers: Mapping[str, str]
    deadline: int

    @property
    def has_deadline(self) -> bool:
        """Whether it is known when its answer should be there."""
        return self.deadline != NO_DEADLINE

    @property
    def key(self) -> str:
        """The idempotency key that it is made with: of the request, and of the operator's retries of that."""
        return self.request_id if self.round == 0 else f"{self.request_id}-{self.round}"


def waiting(connection: sa.Connection) -> dict[str | None, int]:
    """Return how many calls are available, by account; those that back off included."""
    counted = sa.select(row.account, sa.func.count()).where(
        UNFINISHED_CALLS, row.state == CallState.AVAILABLE
    )
    return {account or None: count for account, count in connection.execute(counted.group_by(row.account))}


def due(connection: sa.Connection, at: Milliseconds) -> dict[str | None, int]:
    """Return how many calls are due now, by account."""
    counted = sa.select(row.account, sa.func.count()).where(
        UNFINISHED_CALLS, row.state == CallState.AVAILABLE, row.due_at <= at
    )
    return {account or None: count for account, count in connection.execute(counted.group_by(row.account))}


def next_due(connection: sa.Connection) -> int | None:
    """Return when the next call is due, in milliseconds since the epoch, if any waits."""
    earliest: int | None = connection.scalar(
        sa.select(sa.func.min(row.due_at)).where(UNFINISHED_CALLS, row.state == CallState.AVAILABLE)
    )
    return earliest


def claim(
    connection: sa.Connection,
    account: str | None,
    caller: str,
    limit: int,
    at: Milliseconds,
    *,
    concurrency: int,
    lease_until: Milliseconds,
    but_not: Collection[str] = (),
) -> list[ClaimedCall]:
    """Commit the intent to make up to `limit` due calls of an account, those first whose deadline is nearest.

    No more than `concurrency` of an account's are under way at once; those of a caller that is gone don't count.
    `but_not` are lanes that are paused.
    """
    database.lock(connection, CALL_LOCK)
    ours = UNFINISHED_CALLS, row.account == (account or "")
    under_way = sa.select(sa.func.count()).where(*ours, row.state == CallState.CALLING, row.lease_until > at)
    room = min(limit, concurrency - (connection.scalar(under_way) or 0))
    if room <= 0:
        return []
    names = ("request_id", "round", "submissions", "batch_id", "lane", "model", "deadline")
    wanted = sa.select(*(row[name] for name in names)).where(
        *ours, row.state == CallState.AVAILABLE, row.due_at <= at
    )
    if but_not:
        wanted = wanted.where(row.lane.not_in(but_not))
    nearest = wanted.order_by(row.deadline, row.request_id).limit(room).with_for_update(skip_locked=True)
    found: Sequence[Any] = connection.execute(nearest).all()
    headers = _headers(connection, [one.request_id for one in found])
    return [
        ClaimedCall(
            one.request_id,
            one.round,
            caller,
            one.submissions + 1,
            one.batch_id,
            one.lane,
            one.model,
            account,
            headers[one.request_id],
            one.deadline,
        )
        for one in found
        if one.request_id in headers
        and move(
            connection,
            CALL,
            one.request_id,
            one.round,
            caller=caller,
            submissions=one.submissions + 1,
            calling_at=at,
            lease_until=lease_until,
            suspected_at=None,
        )
    ]


def renew(connection: sa.Connection, calls: Collection[ClaimedCall], lease_until: Milliseconds) -> None:
    """Show that the caller of these calls is alive."""
    by_caller = {one.caller for one in calls}
    ids = [one.request_id for one in calls]
    leased = sa.update(real_time_calls).where(
        among(connection, ids, row.request_id), row.state == CallState.CALLING, row.caller.in_(by_caller)
    )
    connection.execute(leased.values(lease_until=lease_until, suspected_at=None))


def is_ours(connection: sa.Connection, call: ClaimedCall) -> bool:
    """Return whether a call is still the caller's to make: nobody has given it up."""
    ours = sa.select(row.state).where(
        row.request_id == call.request_id,
        row.round == call.round,
        row.state == CallState.CALLING,
        row.caller == call.caller,
        row.submissions == call.submissions,
    )
    return connection.scalar(ours) is not None


def _headers(connection: sa.Connection, ids: Sequence[str]) -> dict[str, Mapping[str, str]]:
    joined = sa.select(requests.c.id, segments.c.headers).join_from(
        requests, segments, segments.c.id == requests.c.segment_id
    )
    found = connection.execute(joined.where(among(connection, ids)))
    return {one.id: json.loads(one.headers) for one in found}
