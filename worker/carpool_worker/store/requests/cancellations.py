"""SQL about cancellation: cancel commands that came before their requests, and requests that are to be canceled.

Requesting it only sets `cancel_requested_at`; the agent that handles the request next acts on it. Rows are locked in
order of id, and a batch before its requests, so that two agents that do the same cannot deadlock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool.contract import Envelope
from carpool.request_ids import RequestIds
from carpool_worker.models.indexes import (
    CANCEL_REQUESTED,
    RETRYABLE,
    UNFINISHED,
    UNFINISHED_CALLS,
    unfinished,
)
from carpool_worker.models.tables import batches, cancellations, real_time_calls, requests, segments
from carpool_worker.states import FINAL_REQUEST_STATES, BatchState, RequestState
from carpool_worker.store.bulk import one_of
from carpool_worker.store.requests.rows import among
from carpool_worker.store.upserts import upsert

ALL = ""
"""The request_id of a cancel command for everything that a client enqueued until then."""

UNSENT_STATES = (BatchState.OPEN, BatchState.SEALED)
"""States of batches that Anthropic does not have."""

STREAMED_ROWS = 10_000
"""Ids read from the database at a time."""

TO_BE_CANCELED = sa.and_(CANCEL_REQUESTED, requests.c.finished_at.is_(None))
CANCELABLE = sa.and_(requests.c.cancel_requested_at.is_(None), requests.c.finished_at.is_(None))


class DueCancellation(NamedTuple):
    """A request to cancel now."""

    id: str
    client: str
    callback: str | None
    params_bytes: int
    client_batch: str | None = None
    has_expired: bool = False  # as its client's batch has


class RequestStanding(NamedTuple):
    """The state of a request; `answered`: Claude answered it, which is paid for."""

    state: RequestState
    answered: bool

    @property
    def final(self) -> bool:
        """Whether the request has ended."""
        return self.state in FINAL_REQUEST_STATES


def remember(connection: sa.Connection, client: str, ids: Iterable[str], at: int) -> None:
    """Remember a client's cancel command for requests not stored yet, or for ALL; the latest time counts."""
    rows = [{"request_id": id_, "client": client, "requested_at": at} for id_ in sorted(ids)]
    earlier = cancellations.c.requested_at < at
    upsert(connection, cancellations, rows, replace=("requested_at",), where=earlier)


def remembered(connection: sa.Connection, envelopes: Sequence[Envelope]) -> list[str]:
    """Return the ids of those requests whose client sent a cancel command before they arrived."""
    row = cancellations.c
    one = one_of(connection, row.request_id, (envelope.id for envelope in envelopes))
    every = sa.and_(row.request_id == ALL, row.client.in_({envelope.client for envelope in envelopes}))
    found = connection.execute(sa.select(cancellations).where(sa.or_(one, every)))
    requested_at = {(command.request_id, command.client): command.requested_at for command in found}
    return [
        envelope.id
        for envelope in envelopes
        if (envelope.id, envelope.client) in requested_at
        or requested_at.get((ALL, envelope.client), -1) >= envelope.enqueued_at
    ]


def request_cancellation(connection: sa.Connection, ids: Sequence[str], client: str | None, at: int) -> int:
    """Request the cancellation of those of `ids` that have not ended; return how many are newly affected.

    With `client`, only that client's requests count.
    """
    cancelable = sa.select(requests.c.id).where(among(connection, ids), CANCELABLE)
    if client is not None:
        cancelable = cancelable.where(requests.c.client == client)
    locked = list(connection.scalars(cancelable.order_by(requests.c.id).with_for_update()))
    connection.execute(
        sa.update(requests).where(among(connection, locked), CANCELABLE).values(cancel_requested_at=at)
    )
    return len(locked)


def waiting_of_client(connection: sa.Connection, client: str, until: int) -> RequestIds:
    """Return the ids of a client's requests that were enqueued until then and have not ended."""
    theirs = sa.select(requests.c.id).where(requests.c.client == client, requests.c.finished_at.is_(None))
    until_then = theirs.where(requests.c.enqueued_at <= until)
    unfinished = sa.select(batches.c.id).where(UNFINISHED)
    # A UNION, as each part has an index; an OR would read the whole table.
    in_batches = until_then.where(requests.c.batch_id.in_(unfinished))
    # Few; as a subquery, PostgreSQL would walk both tables.
    calls = sa.select(real_time_calls.c.request_id).where(
        UNFINISHED_CALLS, real_time_calls.c.client == client
    )
    called = among(connection, list(connection.scalars(calls)))
    found = sa.union(in_batches, until_then.where(RETRYABLE), until_then.where(called))
    streamed = connection.execution_options(stream_results=True, yield_per=STREAMED_ROWS).scalars(found)
    return RequestIds(streamed)


def waiting_in(connection: sa.Connection, batch_id: str) -> RequestIds:
    """Return the ids of a batch's requests that have not ended."""
    waiting = sa.select(requests.c.id).where(
        requests.c.batch_id == batch_id, requests.c.finished_at.is_(None)
    )
    return RequestIds(connection.scalars(waiting.order_by(requests.c.id)))


def standing(connection: sa.Connection, ids: Sequence[str]) -> dict[str, RequestStanding]:
    """Return the standing, by id, of those of `ids` that are in the table."""
    answered = requests.c.output_tokens.is_not(None)
    found = sa.select(requests.c.id, requests.c.state, answered).where(among(connection, ids))
    return {id_: RequestStanding(state, bool(made)) for id_, state, made in connection.execute(found)}


def unsent_to_be_canceled(connection: sa.Connection) -> list[str]:
    """Return the ids of the open and sealed batches with requests to be canceled."""
    has_one = sa.exists().where(requests.c.batch_id == batches.c.id, TO_BE_CANCELED)
    found = sa.select(batches.c.id).where(unfinished(*UNSENT_STATES), has_one)
    return list(connection.scalars(found.order_by(batches.c.id)))


def due_in_batch(connection: sa.Connection, batch_id: str, limit: int) -> list[DueCancellation]:
    """Return up to `limit` requests to be canceled of a locked batch, and lock them too."""
    due = _due().where(requests.c.batch_id == batch_id, requests.c.state == RequestState.BATCHED)
    return _read(connection, due.order_by(requests.c.id).limit(limit).with_for_update(of=requests))


def due_while_retryable(connection: sa.Connection, limit: int) -> list[DueCancellation]:
    """Return up to `limit` retryable requests to be canceled, locked; those being staged right now are skipped."""
    due = _due().where(RETRYABLE, requests.c.state == RequestState.RETRYABLE)
    # In the order of their index: in that of the ids, SQLite would read the whole ledger each second.
    ordered = due.order_by(requests.c.retry_at, requests.c.id)
    return _read(connection, ordered.limit(limit).with_for_update(of=requests, skip_locked=True))


def unwanted(connection: sa.Connection) -> set[str]:
    """Return the ids of the batches in progress whose requests are all to be canceled."""
    joined = sa.select(batches.c.id).join(requests, requests.c.batch_id == batches.c.id)
    unwanted_requests = joined.where(
        unfinished(BatchState.IN_PROGRESS), batches.c.in_doubt_at.is_(None), TO_BE_CANCELED
    )
    whole = unwanted_requests.group_by(batches.c.id, batches.c.request_count).having(
        sa.func.count() == batches.c.request_count
    )
    return set(connection.scalars(whole))


def _due() -> sa.Select[Any]:
    row = requests.c
    # The deadline of a client's batch is when it expires; others cancel nothing.
    expired = sa.and_(row.client_batch.is_not(None), row.deadline.is_not(None))
    has_expired = sa.case((sa.and_(expired, row.cancel_requested_at >= row.deadline), 1), else_=0)
    facts = (row.id, row.client, segments.c.callback, row.params_bytes, row.client_batch, has_expired)
    due = sa.select(*facts).where(TO_BE_CANCELED)
    return due.join_from(requests, segments, segments.c.id == row.segment_id)


def _read(connection: sa.Connection, query: sa.Select[Any]) -> list[DueCancellation]:
    return [DueCancellation._make(row) for row in connection.execute(query)]
