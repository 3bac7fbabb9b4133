"""Answers as callbacks get them, put together from the tables without parsing what Claude said."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import sqlalchemy as sa

from carpool.contract import ABSENT, Answer, Usage
from carpool_worker.models import AnswerRow, Batch, Request
from carpool_worker.states import FINAL_REQUEST_STATES


class _Error(msgspec.Struct, frozen=True):
    error: msgspec.Raw = ABSENT


class _Result(msgspec.Struct, frozen=True):
    message: msgspec.Raw = ABSENT
    error: _Error = _Error()


_decode_result = msgspec.json.Decoder(_Result).decode

requests = Request.__table__  # type: ignore[attr-defined]
answers = AnswerRow.__table__  # type: ignore[attr-defined]
batches = Batch.__table__  # type: ignore[attr-defined]

COLUMNS = (
    *("id", "client", "model", "state", "outcome", "attempt", "metadata"),
    *("input_tokens", "output_tokens", "cache_write_tokens", "cache_read_tokens"),
    *("cost", "list_price", "enqueued_at", "finished_at"),
)

_FINAL = (
    sa.select(
        *(requests.c[name] for name in COLUMNS),
        batches.c.claude_id,
        answers.c.body,
    )
    .join_from(requests, answers, answers.c.request_id == requests.c.id, isouter=True)
    .join(batches, batches.c.id == requests.c.batch_id, isouter=True)
    .where(requests.c.id.in_(sa.bindparam("ids", expanding=True)))
    .where(requests.c.state.in_(FINAL_REQUEST_STATES))
)


def load_answers(
    connection: sa.Connection, ids: Collection[str], client: str | None = None
) -> dict[str, Answer]:
    """Return the answers of those requests of `ids` that are final, and of `client` where one is named."""
    query = _FINAL if client is None else _FINAL.where(requests.c.client == client)
    return {row.id: _answer(row) for row in connection.execute(query, {"ids": list(ids)})}


def _answer(row: Any) -> Answer:
    result = _decode_result(row.body) if row.body else _Result()
    return Answer(
        id=row.id,
        client=row.client,
        model=row.model,
        state=row.state.value,
        outcome=row.outcome,
        message=result.message,
        error=result.error.error,
        usage=_usage(row),
        cost=_dollars(row.cost),
        list_price=_dollars(row.list_price),
        metadata=ABSENT if row.metadata is None else msgspec.Raw(row.metadata),
        attempts=row.attempt,
        batch_id=row.claude_id,
        enqueued_at=_time(row.enqueued_at),
        finished_at=_time(row.finished_at),
    )


def _usage(row: Any) -> Usage | None:
    if row.input_tokens is None:
        return None
    return Usage(
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens or 0,
        cache_creation_input_tokens=row.cache_write_tokens or 0,
        cache_read_input_tokens=row.cache_read_tokens or 0,
    )


def _dollars(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:f}"


def _time(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
