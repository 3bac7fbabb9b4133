"""SQL that puts requests into the queue of calls: out of batches that Anthropic does not have, or beside those it has.

Rows are locked in this order: batches, requests, calls. Requests that another agent has locked are left out, as the
stager locks them before their batch.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool_worker import transition_log
from carpool_worker.models.indexes import unfinished
from carpool_worker.models.tables import batches, real_time_calls, requests, segments
from carpool_worker.states import BatchState, CallState, RequestState
from carpool_worker.store.bulk import update_rows
from carpool_worker.store.requests.rows import REAL_TIME, among, in_states
from carpool_worker.store.requests.segments import Place
from carpool_worker.units import DOLLAR, Milliseconds

CALLABLE = (RequestState.BATCHED, RequestState.RETRYABLE)
AT_ANTHROPIC = (BatchState.IN_PROGRESS, BatchState.CANCELING)


class CallableRequest(NamedTuple):
    """A request that may be called; the estimate, in picodollars, is reserved from budgets for its batch."""

    id: str
    client: str
    batch_id: str
    state: RequestState
    segment_id: int
    position: int
    params_bytes: int
    estimate: int | None
    deadline: int | None
    round: int
    client_batch: str | None
    model: str
    lane: str
    account: str | None
    gateway_key: str | None
    callback: str | None

    @property
    def place(self) -> Place:
        """Where its params are."""
        return Place(self.segment_id, self.position)


class NewCall(NamedTuple):
    """A request that is called, what that may cost, and how much of that its client's budget has to reserve more."""

    request: CallableRequest
    estimate: int  # picodollars, as the next
    added: int


def batches_of(connection: sa.Connection, ids: Sequence[str]) -> sa.Select[Any]:
    """Return the query for the batches that these requests are in."""
    row = requests.c
    return sa.select(row.batch_id).where(among(connection, ids), row.state == RequestState.BATCHED)


def lock_unsent(
    connection: sa.Connection, ids: Sequence[str], unsent: Collection[str]
) -> list[CallableRequest]:
    """Return those of `ids` that may be called, locked: in one of these `unsent` batches, locked before, or in none."""
    found = _lock(connection, ids, requests.c.state.in_(CALLABLE))
    return [one for one in found if one.state is RequestState.RETRYABLE or one.batch_id in unsent]


def lock_sent(connection: sa.Connection, ids: Sequence[str]) -> list[CallableRequest]:
    """Return those of `ids` that Anthropic has in a batch that is surely theirs and may be called as well, locked."""
    sent = sa.select(batches.c.id).where(unfinished(*AT_ANTHROPIC), batches.c.in_doubt_at.is_(None))
    in_one = sa.and_(requests.c.state == RequestState.BATCHED, requests.c.batch_id.in_(sent))
    return _lock(connection, ids, in_one)


def insert(connection: sa.Connection, calls: Sequence[NewCall], at: Milliseconds, *, beside: bool) -> None:
    """Insert calls for locked requests; unless they stay `beside` it in their batch, the requests leave theirs.

    Raises:
        sqlalchemy.exc.IntegrityError: a request has a call already; the transaction must be rolled back.
    """
    if not calls:
        return
    rows = [_row(one, at, one.request.batch_id if beside else None) for one in calls]
    connection.execute(sa.insert(real_time_calls), rows)
    reserve(
        connection, [(one.request.id, (one.request.estimate or 0) + one.added) for one in calls if one.added]
    )
    if not beside:
        _leave_batches(connection, [one.request for one in calls], at)
    transition_log.record_many(connection, "calls queued", len(calls), beside=beside)


def reserve(connection: sa.Connection, estimates: Sequence[tuple[str, int]]) -> None:
    """Write down what requests have reserved now from their client's budget, in picodollars."""
    rows = [(bytes.fromhex(id_), amount) for id_, amount in estimates]
    update_rows(connection, "requests", {"estimate": "bigint"}, rows, in_states(CALLABLE), {})


def _leave_batches(connection: sa.Connection, some: Sequence[CallableRequest], at: Milliseconds) -> None:
    staged = [one.id for one in some if one.state is RequestState.RETRYABLE]
    row = requests.c
    if staged:
        again = sa.update(requests).where(among(connection, staged))
        connection.execute(again.values(attempt=row.attempt + 1, outcome=None, retry_at=None))
    left = sa.update(requests).where(among(connection, [one.id for one in some]), row.state.in_(CALLABLE))
    connection.execute(left.values(state=RequestState.BATCHED, batch_id=REAL_TIME, batched_at=at))


def _lock(
    connection: sa.Connection, ids: Sequence[str], which: sa.ColumnElement[bool]
) -> list[CallableRequest]:
    row, of = requests.c, segments.c
    round_ = sa.func.coalesce(row.retries, 0)
    called = sa.exists().where(real_time_calls.c.request_id == row.id, real_time_calls.c.round == round_)
    own: tuple[Any, ...] = (
        *(
            row[name]
            for name in ("id", "client", "batch_id", "state", "segment_id", "position", "params_bytes")
        ),
        sa.type_coerce(row.estimate, sa.BigInteger),
        row.deadline,
        round_,
        row.client_batch,
    )
    shared = (of[name] for name in ("model", "lane", "account", "gateway_key", "callback"))
    wanted = (
        sa.select(*own, *shared)
        .join_from(requests, segments, of.id == row.segment_id)
        .where(among(connection, ids), which, ~called, row.position.is_not(None))
        .where(row.cancel_requested_at.is_(None), row.held_at.is_(None))
        .order_by(row.id)
        .with_for_update(of=requests, skip_locked=True)
    )
    return [CallableRequest._make(found) for found in connection.execute(wanted)]


def _row(call: NewCall, at: Milliseconds, batch_id: str | None) -> dict[str, Any]:
    one = call.request
    return {
        "request_id": one.id,
        "round": one.round,
        "state": CallState.AVAILABLE,
        "batch_id": batch_id,
        "client": one.client,
        "account": one.account or "",
        "model": one.model,
        "lane": one.lane,
        "deadline": one.deadline or 0,
        "estimate": Decimal(call.estimate) / DOLLAR,
        "added": Decimal(call.added) / DOLLAR,
        "queued_at": at,
        "due_at": at,
        "submissions": 0,
    }
