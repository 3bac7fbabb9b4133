"""SQL about requests: which are stored, which wait in a batch, and what several statements about them share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool.contract import REQUEST_ID
from carpool_worker.models.tables import requests
from carpool_worker.states import RequestState
from carpool_worker.store.bulk import one_of
from carpool_worker.store.requests import segments
from carpool_worker.store.requests.segments import Terms

BATCHED = RequestState.BATCHED.value

UNBATCHED = "0" * 32
"""The batch of a request that never was in one: it is held as over budget, or ended before there was room."""

REAL_TIME = "f" * 32
"""The batch of a request that is called in real time, or was answered by a call: it is in no batch."""


class Pending(NamedTuple):
    """What the collector must know about a request that waits for its answer."""

    id: str
    attempt: int
    enqueued_at: int
    metadata: str | None
    cancel_requested_at: int | None  # if it is set, its answer is dropped
    reserved: int | None  # picodollars, from its client's budget
    terms: Terms
    client_batch: str | None = None  # the batch that its client made
    deadline: int | None = None  # when its answer should have been there, in milliseconds since the epoch

    @property
    def client(self) -> str:
        """Whose request it is."""
        return self.terms.client

    @property
    def callback(self) -> str | None:
        """Where its answer goes, as JSON."""
        return self.terms.callback

    @property
    def has_expired(self) -> bool:
        """Whether it is to be canceled as its client's batch has expired."""
        if self.client_batch is None or self.deadline is None or self.cancel_requested_at is None:
            return False
        return self.cancel_requested_at >= self.deadline


def known(connection: sa.Connection, ids: Sequence[str]) -> dict[str, bytes | None]:
    """Return those of `ids` that are in the table, with the digest of the params of those with an idempotency key."""
    found = sa.select(requests.c.id, requests.c.params_digest).where(among(connection, ids))
    return {row.id: row.params_digest for row in connection.execute(found)}


def of_client(connection: sa.Connection, ids: Sequence[str], client: str) -> set[str]:
    """Return those of `ids` that are requests of this client."""
    found = sa.select(requests.c.id).where(among(connection, ids), requests.c.client == client)
    return set(connection.scalars(found))


def state_of(connection: sa.Connection, request_id: str, client: str) -> RequestState | None:
    """Return the state of a request, or None if this client has none with this id."""
    found = sa.select(requests.c.state).where(among(connection, [request_id]), requests.c.client == client)
    return connection.scalar(found)


def batch_of(connection: sa.Connection, request_id: str) -> str | None:
    """Return the id of a request's batch, or None if there is no such request, or this is no id of one."""
    batch_id: str | None = connection.scalar(
        sa.select(requests.c.batch_id).where(among(connection, [request_id]))
    )
    return batch_id


def terms_of(connection: sa.Connection, request_id: str) -> Terms | None:
    """Return what a request has in common with others of its segment; None if there is no such request."""
    found = sa.select(requests.c.segment_id).where(among(connection, [request_id]))
    segment_id = connection.scalar(found)
    return None if segment_id is None else segments.terms(connection, [segment_id]).get(segment_id)


def count_pending(connection: sa.Connection, batch_id: str) -> int:
    """Return how many requests wait in this batch."""
    waiting = sa.select(sa.func.count()).where(
        requests.c.batch_id == batch_id, requests.c.state == RequestState.BATCHED
    )
    return connection.scalar(waiting) or 0


def pending_ids(connection: sa.Connection, batch_id: str, limit: int) -> list[str]:
    """Return up to `limit` ids of requests that wait in this batch."""
    waiting = sa.select(requests.c.id).where(
        requests.c.batch_id == batch_id, requests.c.state == RequestState.BATCHED
    )
    return list(connection.scalars(waiting.order_by(requests.c.id).limit(limit)))


def pending(connection: sa.Connection, batch_id: str | None, ids: Sequence[str]) -> dict[str, Pending]:
    """Return those of `ids` that wait in this batch, locked (in order of id) until the transaction ends.

    None: in any batch, or for the answer to a call.
    """
    in_batch = sa.true() if batch_id is None else requests.c.batch_id == batch_id
    names = ("id", "attempt", "enqueued_at", "metadata", "cancel_requested_at")
    reserved = sa.type_coerce(requests.c.estimate, sa.BigInteger)
    last = (requests.c[name] for name in ("segment_id", "client_batch", "deadline"))
    waiting = (
        sa.select(*(requests.c[name] for name in names), reserved, *last)
        .where(among(connection, ids), in_batch)
        .where(requests.c.state == RequestState.BATCHED)
        .order_by(requests.c.id)
        .with_for_update()
    )
    rows: Sequence[Any] = connection.execute(waiting).all()
    shared = segments.terms(connection, {row.segment_id for row in rows})
    return {row.id: _pending(row, shared[row.segment_id]) for row in rows}


def _pending(row: Any, terms: Terms) -> Pending:
    id_, attempt, enqueued_at, metadata, cancel_requested_at, reserved, _, *own = row
    return Pending(id_, attempt, enqueued_at, metadata, cancel_requested_at, reserved, terms, *own)


def sizes(
    connection: sa.Connection, batch_id: str, ids: Iterable[str] | None = None
) -> list[tuple[str, int]]:
    """Return the id and the params' size of each request that waits in a batch, or of those among `ids`.

    They are in order of id, and locked until the transaction ends.
    """
    waiting = sa.select(requests.c.id, requests.c.params_bytes).where(
        requests.c.batch_id == batch_id, requests.c.state == RequestState.BATCHED
    )
    if ids is not None:
        waiting = waiting.where(among(connection, ids))
    locked = waiting.order_by(requests.c.id).with_for_update()
    return [(row.id, row.params_bytes) for row in connection.execute(locked)]


def transfer(connection: sa.Connection, ids: Sequence[str], batch_id: str) -> None:
    """Move waiting requests into another batch."""
    connection.execute(
        sa.update(requests)
        .where(among(connection, ids), requests.c.state == RequestState.BATCHED)
        .values(batch_id=batch_id)
    )


def among(
    connection: sa.Connection, ids: Iterable[str], column: sa.ColumnElement[str] = requests.c.id
) -> sa.ColumnElement[bool]:
    """Return the condition that a column (by default the request's id) is one of `ids`.

    What is no id, as in the results of another program's batch, is none of the table's.
    """
    return one_of(connection, column, filter(REQUEST_ID.fullmatch, ids))


def in_states(states: Iterable[RequestState]) -> str:
    """Return the condition that a request is in one of `states`, as SQL text."""
    return f"requests.state IN ({', '.join(repr(state.value) for state in states)})"
