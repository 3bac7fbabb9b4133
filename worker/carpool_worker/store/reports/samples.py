"""What the advisor reads: samples of answered requests, bounded however many there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool_worker.models.tables import batches, params, requests
from carpool_worker.states import RequestState


class Opened(NamedTuple):
    """A batch's size and times."""

    id: str
    lane: str
    model: str
    opened_at: int  # milliseconds since the epoch
    request_count: int
    sealed_at: int | None = None


class Answered(NamedTuple):
    """An answered request, without its contents."""

    id: str
    client: str
    model: str
    params_bytes: int
    input_tokens: int
    output_tokens: int
    cache_write_tokens: int
    cache_read_tokens: int


def opened_since(connection: sa.Connection, since: int, most: int) -> list[Opened]:
    """Return the newest batches opened since then (milliseconds since the epoch) that were posted, oldest first."""
    query = (
        sa.select(*(batches.c[name] for name in Opened._fields))
        .where(
            batches.c.opened_at >= since, batches.c.submitting_at.is_not(None), batches.c.request_count > 0
        )
        .order_by(batches.c.opened_at.desc())
        .limit(most)
    )
    return [Opened._make(row) for row in connection.execute(query)][::-1]


def answered_in(connection: sa.Connection, batch_id: str, rows: int) -> list[Answered]:
    """Return the answered ones among any `rows` requests of a batch."""
    return _answered(connection, requests.c.batch_id == batch_id, None, rows)


def answered_from(connection: sa.Connection, request_id: str, rows: int) -> list[Answered]:
    """Return the answered ones among the `rows` requests from this id on, whatever their batch."""
    return _answered(connection, requests.c.id >= request_id, requests.c.id, rows)


def answered_until(connection: sa.Connection, request_id: str, rows: int) -> list[Answered]:
    """Return the answered ones among the `rows` requests before this id, whatever their batch."""
    return _answered(connection, requests.c.id < request_id, requests.c.id.desc(), rows)


def _answered(
    connection: sa.Connection, where: sa.ColumnElement[bool], order: sa.ColumnElement[Any] | None, rows: int
) -> list[Answered]:
    columns = (requests.c[name] for name in (*Answered._fields, "state"))
    near = (
        sa.select(*columns).where(where).order_by(order).limit(rows).subquery()
    )  # limits what is read, not what fits
    query = sa.select(*(near.c[name] for name in Answered._fields)).where(
        near.c.state == RequestState.COMPLETED, near.c.output_tokens.is_not(None)
    )
    return [Answered._make(row) for row in connection.execute(query)]


def bodies(connection: sa.Connection, ids: Sequence[str]) -> dict[str, bytes]:
    """Return the params, by id, of those of a few requests that still have them."""
    query = sa.select(params.c.request_id, params.c.body).where(params.c.request_id.in_(ids))
    return {row.request_id: bytes(row.body) for row in connection.execute(query)}
