"""Answers as callbacks get them, assembled from the tables without parsing Claude's messages."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

import msgspec
import sqlalchemy as sa

from carpool.contract import ABSENT, Answer, Usage, to_json
from carpool.results import AnswerError
from carpool_worker.models.tables import answers, batches, requests, segments
from carpool_worker.states import FINAL_REQUEST_STATES
from carpool_worker.store.requests.rows import among
from carpool_worker.store.requests.segments import Place, at_places
from carpool_worker.units import DOLLAR


class _Error(msgspec.Struct, frozen=True):
    error: msgspec.Raw = ABSENT


class _Result(msgspec.Struct, frozen=True):
    message: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT


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


_decode_result = msgspec.json.Decoder(_Result).decode
_decode_error = msgspec.json.Decoder(_Error | None).decode
_check_error = msgspec.json.Decoder(AnswerError | None).decode

MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Raised for a stored result, or an error in it, that is not shaped as the API documents it."""

UNREADABLE = msgspec.Raw(
    to_json(AnswerError("unknown", "The API returned an error in a form that can't be read."))
)
"""The error of a request whose stored result is malformed."""

PRUNED = msgspec.Raw(
    to_json(AnswerError("answer_pruned", "The answer is no longer kept; what it used and cost still is."))
)
"""The error of a request that ended so long ago that its answer was dropped, or whose client was purged."""


# States as text and dollars as stored: turning them into objects would cost as much as all the rest.
_FINAL = (
    sa.select(
        *(requests.c[name] for name in ("id", "client")),
        segments.c.model,
        sa.type_coerce(requests.c.state, sa.Text),
        *(requests.c[name] for name in ("outcome", "attempt", "metadata", "enqueued_at", "finished_at")),
        *(sa.type_coerce(requests.c[name], sa.BigInteger) for name in ("cost", "list_price")),
        batches.c.claude_id,
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
    message, error = _read(body)
    return Answer(
        id=row.id,
        client=row.client,
        model=row.model,
        state=row.state,
        outcome=row.outcome,
        message=message,
        error=error,
        usage=row.usage,
        cost=_dollars(row.cost),
        list_price=_dollars(row.list_price),
        metadata=ABSENT if row.metadata is None else msgspec.Raw(row.metadata),
        attempts=row.attempt,
        batch_id=row.claude_id,
        enqueued_at=_time(row.enqueued_at),
        finished_at=_time(row.finished_at),
    )


def _read(body: bytes | None) -> tuple[msgspec.Raw, msgspec.Raw]:
    # One malformed answer must not block the deliveries that were claimed together with it.
    if not body:
        return ABSENT, PRUNED
    try:
        result = _decode_result(body)
    except MALFORMED:
        return ABSENT, UNREADABLE
    return result.message, _unwrapped(result.error)


def _unwrapped(error: msgspec.Raw) -> msgspec.Raw:
    if error is ABSENT:
        return ABSENT
    try:
        inner = (_decode_error(error) or _Error()).error
        _check_error(inner)
    except MALFORMED:
        return UNREADABLE
    return inner


def _dollars(picodollars: int | None) -> str | None:
    return None if picodollars is None else f"{Decimal(picodollars) / DOLLAR:f}"


def _time(milliseconds: int) -> str:
    return f"{_second(milliseconds // 1_000)}.{milliseconds % 1_000:03d}Z"


@lru_cache(maxsize=1_024)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
