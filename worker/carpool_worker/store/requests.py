"""Requests, their params and their answers in SQL. The bulk statements are written for each database's fast way."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool.contract import Envelope
from carpool_worker import moves
from carpool_worker.costs import Price, Tokens
from carpool_worker.database import insert_rows, is_postgres, psycopg_connection, update_rows
from carpool_worker.models import Params, Request
from carpool_worker.prefixes import prefix_of
from carpool_worker.states import CANCEL, RETRY, STAGE, RequestState, Transition

requests = Request.__table__  # type: ignore[attr-defined]
params = Params.__table__  # type: ignore[attr-defined]

BATCHED = RequestState.BATCHED.value
HELD_STATE = RequestState.RETRYABLE.value

SPOOL_ROWS = 500
"""Requests read at a time while a batch's body is written: about a megabyte."""

COLUMNS = {
    "id": "text",
    "client": "text",
    "model": "text",
    "lane": "text",
    "batch_id": "text",
    "state": "text",
    "attempt": "integer",
    "headers": "text",
    "callback": "text",
    "metadata": "text",
    "idempotency_key": "text",
    "params_bytes": "integer",
    "enqueued_at": "bigint",
    "batched_at": "bigint",
    "priority": "integer",
    "submit_by": "bigint",
    "trace": "text",
    "prefix": "text",
}
RESERVED = {"estimate": "bigint"}
HELD = {"estimate": "bigint", "held_at": "bigint", "retry_at": "bigint"}
"""Columns that only requests of clients with a budget have."""

BODY = {"request_id": "text", "body": "bytea"}
"""The columns of `params` and of `answers`."""

UNBATCHED = ""
"""The batch of a request that never was in one: it waits for its client's budget, or ended before it had room."""

NEVER = 253_402_300_799_999
"""The time (milliseconds: the end of the year 9999) for which a held request waits: whoever looks for requests that
wait finds it by the index of these times, and the stager never does."""

NO_PREFIXES: Mapping[str, str | None] = {}

CANCELED_BODY = b'{"type":"canceled"}'
"""The result kept of a request that was canceled: as the API says it, and no message."""


class Pending(NamedTuple):
    """What the collector must know of a request that waits for its answer."""

    id: str
    client: str
    model: str
    attempt: int
    callback: str | None
    cancel_requested_at: int | None = None  # its answer is dropped


@dataclass(frozen=True, slots=True)
class Retry:
    """A request that is due to be tried again."""

    id: str
    model: str
    lane: str
    headers: str
    params_bytes: int
    priority: int
    submit_by: int | None


class Finish(NamedTuple):
    """How one request ends: the columns of `requests`, and the answer's bytes."""

    id: str
    state: RequestState
    outcome: str
    body: bytes
    callback: str | None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_read_tokens: int | None = None
    cost: int | None = None  # picodollars
    list_price: int | None = None

    @classmethod
    def succeeded(
        cls, request_id: str, body: bytes, callback: str | None, tokens: Tokens, price: Price | None
    ) -> Finish:
        """Return the end of a request that was answered."""
        return cls(
            request_id,
            RequestState.COMPLETED,
            "succeeded",
            body,
            callback,
            tokens.input_tokens,
            tokens.output_tokens,
            tokens.cache_write_tokens,
            tokens.cache_read_tokens,
            *(price or (None, None)),
        )

    def dropped(self) -> Finish:
        """Return the end of the same request where it is canceled: no answer, but what it used and cost stays."""
        return self._replace(state=CANCEL.target, outcome="canceled", body=CANCELED_BODY)


SETTLED = ("estimate",)
"""What ends with a request: what was reserved for it. Its cost is in the ledger."""

FINISH_COLUMNS = {
    "state": "text",
    "outcome": "text",
    "input_tokens": "int",
    "output_tokens": "int",
    "cache_write_tokens": "int",
    "cache_read_tokens": "int",
    "cost": "bigint",
    "list_price": "bigint",
    "finished_at": "bigint",
}


def known(connection: sa.Connection, ids: Sequence[str]) -> set[str]:
    """Return those of `ids` that are in the table."""
    return set(connection.scalars(sa.select(requests.c.id).where(among(connection, ids))))


def insert(
    connection: sa.Connection,
    lane: str,
    batch_id: str,
    envelopes: Sequence[Envelope],
    now: int,
    estimates: Mapping[str, int] | None = None,
    prefixes: Mapping[str, str | None] = NO_PREFIXES,
) -> None:
    """Insert requests of a lane, batched, with their params; `estimates` (picodollars) of some of them are reserved.

    `prefixes` has what they begin with, by id.

    Raises:
        sqlalchemy.exc.IntegrityError: another aggregator has just inserted one of them.
    """
    columns, rows = (
        COLUMNS,
        [_row(envelope, prefixes.get(envelope.id), lane, batch_id, now) for envelope in envelopes],
    )
    if estimates:
        columns, rows = COLUMNS | RESERVED, [(*row, estimates.get(row[0])) for row in rows]
    insert_rows(connection, "requests", columns, rows)
    _insert_params(connection, envelopes)
    moves.note_many(connection, f"requests {BATCHED}", len(rows), batch=batch_id, lane=lane)


def insert_held(
    connection: sa.Connection,
    envelopes: Sequence[Envelope],
    lanes: Mapping[str, str],
    estimates: Mapping[str, int],
    now: int,
) -> None:
    """Insert requests that wait for their client's budget, in no batch yet; lanes and estimates are by their ids.

    Raises:
        sqlalchemy.exc.IntegrityError: another aggregator has just inserted one of them.
    """
    rows = [
        (
            *_row(
                envelope,
                prefix_of(envelope.params),
                lanes[envelope.id],
                UNBATCHED,
                now,
                HELD_STATE,
                attempt=0,
            ),
            estimates[envelope.id],
            now,
            NEVER,
        )
        for envelope in envelopes
    ]
    insert_rows(connection, "requests", COLUMNS | HELD, rows)
    moves.note_many(connection, f"requests {HELD_STATE}", len(rows), why="budget")
    _insert_params(connection, envelopes)


def _insert_params(connection: sa.Connection, envelopes: Sequence[Envelope]) -> None:
    insert_rows(
        connection,
        "params",
        BODY,
        [(envelope.id, envelope.params) for envelope in envelopes],
    )


def bodies(connection: sa.Connection, batch_id: str) -> Iterator[tuple[str, bytes]]:
    """Yield the id and the params of each request of a batch, a few at a time.

    Those with the same prefix stand next to each other, in order of id.
    """
    held = requests.c.batch_id == batch_id, sa.type_coerce(requests.c.state, sa.Text) == BATCHED
    narrow = sa.select(requests.c.id, requests.c.prefix).where(*held)
    # Sorted before the params are looked up, one by one: sorted with them, all would be written to disk once more. The
    # offset keeps both databases from seeing through that, and they hand the rows on as they come.
    ordered = narrow.order_by(requests.c.prefix, requests.c.id).offset(0).subquery()
    body = sa.select(params.c.body).where(params.c.request_id == ordered.c.id).scalar_subquery()
    query = sa.select(ordered.c.id, body)
    if is_postgres(connection):
        yield from _streamed_binary(connection, query)
        return
    streamed = connection.execution_options(stream_results=True, yield_per=SPOOL_ROWS).execute(query)
    for request_id, body in streamed:
        yield request_id, body


def _streamed_binary(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[tuple[str, bytes]]:
    # Through SQLAlchemy the bytes come as hexadecimal text, twice as long and to be decoded.
    compiled = query.compile(connection.engine)
    with psycopg_connection(connection) as driver, driver.cursor("bodies", binary=True) as cursor:
        cursor.itersize = SPOOL_ROWS
        yield from cursor.execute(str(compiled), compiled.params)


def pending(connection: sa.Connection, batch_id: str, ids: Sequence[str]) -> dict[str, Pending]:
    """Return those of `ids` that wait in this batch, locked (in order of id) until the transaction ends."""
    waiting = (
        sa.select(*(requests.c[name] for name in Pending._fields))
        .where(among(connection, ids), requests.c.batch_id == batch_id)
        .where(requests.c.state == RequestState.BATCHED)
        .order_by(requests.c.id)
        .with_for_update()
    )
    return {row.id: Pending._make(row) for row in connection.execute(waiting).all()}


def batch_of(connection: sa.Connection, request_id: str) -> str | None:
    """Return the id of the batch that a request is in, or None where there is no such request."""
    return connection.scalar(sa.select(requests.c.batch_id).where(requests.c.id == request_id))


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


def finish(
    connection: sa.Connection, finished: Sequence[Finish], now: int, batch_id: str | None = None
) -> None:
    """Put requests that are locked by `pending` into their final states, with their answers; the log has the batch."""
    update_rows(
        connection,
        "requests",
        "id",
        FINISH_COLUMNS,
        [_finish_row(one, now) for one in finished],
        _state_in(RequestState.BATCHED),
        SETTLED,
    )
    insert_rows(connection, "answers", BODY, [(one.id, one.body) for one in finished])
    for state, count in Counter(one.state for one in finished).items():
        moves.note_many(connection, f"requests {state}", count, batch=batch_id)


def postpone(connection: sa.Connection, retried: Sequence[tuple[str, str, int]], batch_id: str) -> None:
    """Make requests of a batch retryable: (id, outcome, when) each."""
    rows = [(id_, RETRY.target.value, outcome, at) for id_, outcome, at in retried]
    columns = {"state": "text", "outcome": "text", "retry_at": "bigint"}
    count = update_rows(connection, "requests", "id", columns, rows, _guard(RETRY))
    moves.note_many(connection, f"requests {RETRY.target}", count, batch=batch_id)


def due_to_retry(connection: sa.Connection, now: int, limit: int) -> list[Retry]:
    """Return up to `limit` requests whose next try is due, oldest first, locked until the transaction ends."""
    due = (
        sa.select(*(requests.c[name] for name in Retry.__slots__))
        .where(requests.c.state == RequestState.RETRYABLE, requests.c.retry_at <= now)
        .order_by(requests.c.retry_at, requests.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [Retry(*row) for row in connection.execute(due)]


def stage(connection: sa.Connection, batch_id: str, ids: Sequence[str], now: int) -> None:
    """Put retryable requests into a batch for another attempt."""
    staged = connection.execute(
        sa.update(requests)
        .where(among(connection, ids), requests.c.state.in_(STAGE.sources))
        .values(
            state=STAGE.target,
            batch_id=batch_id,
            attempt=requests.c.attempt + 1,
            outcome=None,
            retry_at=None,
            batched_at=now,
        )
    )
    moves.note_many(connection, f"requests {STAGE.target}", staged.rowcount, move=STAGE.verb, batch=batch_id)


def hand_over(connection: sa.Connection, ids: Sequence[str], batch_id: str) -> None:
    """Move requests that wait into another batch."""
    connection.execute(
        sa.update(requests)
        .where(among(connection, ids), requests.c.state == RequestState.BATCHED)
        .values(batch_id=batch_id)
    )


def sizes(connection: sa.Connection, batch_id: str) -> list[tuple[str, int]]:
    """Return id and params' size of each request that waits in a batch, in order of id, locked as in `pending`."""
    waiting = sa.select(requests.c.id, requests.c.params_bytes).where(
        requests.c.batch_id == batch_id, requests.c.state == RequestState.BATCHED
    )
    locked = waiting.order_by(requests.c.id).with_for_update()
    return [(row.id, row.params_bytes) for row in connection.execute(locked)]


def _row(
    envelope: Envelope,
    prefix: str | None,
    lane: str,
    batch_id: str,
    now: int,
    state: str = BATCHED,
    attempt: int = 1,
) -> tuple[Any, ...]:
    return (
        envelope.id,
        envelope.client,
        envelope.model,
        lane,
        batch_id,
        state,
        attempt,
        json.dumps(envelope.headers) if envelope.headers else "{}",
        envelope.callback.decode() if envelope.callback else None,
        envelope.metadata.decode() if envelope.metadata else None,
        envelope.idempotency_key,
        len(envelope.params),
        envelope.enqueued_at,
        now,
        envelope.priority,
        envelope.submit_by,
        envelope.trace,
        prefix,
    )


def _finish_row(one: Finish, now: int) -> tuple[Any, ...]:
    return (
        one.id,
        one.state.value,
        one.outcome,
        one.input_tokens,
        one.output_tokens,
        one.cache_write_tokens,
        one.cache_read_tokens,
        one.cost,
        one.list_price,
        now,
    )


def _guard(transition: Transition[RequestState]) -> str:
    return _state_in(*transition.sources)


def _state_in(*states: RequestState) -> str:
    return f"requests.state IN ({', '.join(repr(state.value) for state in states)})"


def among(
    connection: sa.Connection, ids: Iterable[str], column: sa.ColumnElement[str] = requests.c.id
) -> sa.ColumnElement[bool]:
    """Return the condition that a column (the request's id) holds one of `ids`."""
    # One parameter however many ids: neither database has to parse or cache a statement per length. (As a list
    # psycopg would dump it id by id; of a set that comes from a function PostgreSQL's planner makes too little.)
    if is_postgres(connection):
        listed = sa.func.string_to_array(",".join(ids), ",", type_=sa.ARRAY(sa.Text))
        return column == sa.any_(listed)
    each = sa.func.json_each(json.dumps(list(ids))).table_valued("value")
    return column.in_(sa.select(each.c.value))
