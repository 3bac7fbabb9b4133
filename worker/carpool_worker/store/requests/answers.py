"""Answers as callbacks get them, assembled from the tables without parsing Claude's messages."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import msgspec
import sqlalchemy as sa

from carpool.answers import dollars, message_and_error, rfc3339
from carpool.contract import ABSENT, Answer, Usage
from carpool_worker.models.tables import answers, batches, requests, segments
from carpool_worker.states import FINAL_REQUEST_STATES
from carpool_worker.store.requests.rows import REAL_TIME, among
from carpool_worker.store.requests.segments import Place, at_places

IN_REAL_TIME = "real_time"


class _FinalRow(NamedTuple):
    """A row of _FINAL."""

    id: str
    client: str
    model: str
    state: str
    outcome: str
    attempt: int
    metadata: str | None
    enqueued_at: int
    finished_at: int
    cost: int | None
    list_price: int | None
    claude_id: str | None
    batch_id: str
    answer_id: int | None
    answer_position: int | None
    input_tokens: int | None
    output_tokens: int | None
    cache_write_tokens: int | None
    cache_read_tokens: int | None

    @property
    def usage(self) -> Usage | None:
        if self.input_tokens is None:
            return None
        return Usage(
            self.input_tokens,
            self.output_tokens or 0,
            self.cache_write_tokens or 0,
            self.cache_read_tokens or 0,
        )


# States as text and dollars as stored: turning them into objects would cost as much as all the rest.
_FINAL = (
    sa.select(
        *(requests.c[name] for name in ("id", "client")),
        segments.c.model,
        sa.type_coerce(requests.c.state, sa.Text),
        *(requests.c[name] for name in ("outcome", "attempt", "metadata", "enqueued_at", "finished_at")),
        *(sa.type_coerce(requests.c[name], sa.BigInteger) for name in ("cost", "list_price")),
        batches.c.claude_id,
        requests.c.batch_id,
        *(requests.c[name] for name in ("answer_id", "answer_position")),
        *(requests.c[name] for name in ("input_tokens", "output_tokens")),
        *(requests.c[name] for name in ("cache_write_tokens", "cache_read_tokens")),
    )
    .join_from(requests, segments, segments.c.id == requests.c.segment_id)
    .join(batches, batches.c.id == requests.c.batch_id, isouter=True)
    .where(requests.c.state.in_(FINAL_REQUEST_STATES))
)


def load_answers(
    connection: sa.Connection, ids: Collection[str], client: str | None = None
) -> dict[str, Answer]:
    """Return the answers, by id, of those of `ids` that are final; with `client`, only that client's."""
    query = _FINAL.where(among(connection, ids))
    if client is not None:
        query = query.where(requests.c.client == client)
    rows = list(map(_FinalRow._make, connection.execute(query)))
    places = {row.id: Place(row.answer_id, row.answer_position or 0) for row in rows if row.answer_id}
    bodies = at_places(connection, answers, places)
    return {row.id: _answer(row, bodies.get(row.id)) for row in rows}


def _answer(row: _FinalRow, body: bytes | None) -> Answer:
    # One malformed answer must not block the deliveries that were claimed together with it.
    message, error = message_and_error(body)
    return Answer(
        id=row.id,
        client=row.client,
        model=row.model,
        state=row.state,
        outcome=row.outcome,
        message=message,
        error=error,
        usage=row.usage,
        cost=dollars(row.cost),
        list_price=dollars(row.list_price),
        processing=IN_REAL_TIME if row.batch_id == REAL_TIME else msgspec.UNSET,
        metadata=ABSENT if row.metadata is None else msgspec.Raw(row.metadata),
        attempts=row.attempt,
        batch_id=row.claude_id,
        enqueued_at=rfc3339(row.enqueued_at),
        finished_at=rfc3339(row.finished_at),
    )
