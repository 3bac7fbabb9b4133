"""What becomes of the requests of a batch, in SQL: they finish, or are to be tried again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from carpool_worker import transition_log
from carpool_worker.models.tables import requests
from carpool_worker.money.costs import Price, Tokens
from carpool_worker.states import CANCEL, RETRY, RequestState
from carpool_worker.store.bulk import insert_rows, update_rows
from carpool_worker.store.requests.rows import BODY, among

CANCELED_BODY = b'{"type":"canceled"}'
"""The result kept of a request that was canceled: as the API says it, and no message."""

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


class Pending(NamedTuple):
    """What the collector must know of a request that waits for its answer."""

    id: str
    client: str
    model: str
    attempt: int
    callback: str | None
    cancel_requested_at: int | None = None  # its answer is dropped


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
        transition_log.note_many(connection, f"requests {state}", count, batch=batch_id)


def postpone(connection: sa.Connection, retried: Sequence[tuple[str, str, int]], batch_id: str) -> None:
    """Make requests of a batch retryable: (id, outcome, when) each."""
    rows = [(id_, RETRY.target.value, outcome, at) for id_, outcome, at in retried]
    columns = {"state": "text", "outcome": "text", "retry_at": "bigint"}
    count = update_rows(connection, "requests", "id", columns, rows, _state_in(*RETRY.sources))
    transition_log.note_many(connection, f"requests {RETRY.target}", count, batch=batch_id)


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


def _state_in(*states: RequestState) -> str:
    return f"requests.state IN ({', '.join(repr(state.value) for state in states)})"


def errored_body(kind: str | None, message: str) -> bytes:
    """Return the result kept of a request that failed here, in the shape of the API's own."""
    error = {"type": "error", "error": {"type": kind, "message": message}}
    return msgspec.json.encode({"type": "errored", "error": error})
