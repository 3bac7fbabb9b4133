"""What the advisor reads: samples of answered requests, bounded however many there are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool_worker.models import tables
from carpool_worker.models.tables import batches, requests, segments
from carpool_worker.states import RequestState
from carpool_worker.store.requests import segments as packed

CACHE_TOKENS = ("cache_write_tokens", "cache_read_tokens")


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
    segment_id: int
    position: int  # of its params in the segment
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
    # Limits what is read, not what fits.
    near = sa.select(requests).where(where).order_by(order).limit(rows).subquery().c
    # Tokens of the cache are NULL where there were none.
    columns: dict[str, sa.ColumnElement[Any]] = {
        name: near[name] for name in Answered._fields if name != "model"
    }
    columns |= {name: sa.func.coalesce(near[name], 0) for name in CACHE_TOKENS}
    columns["model"] = segments.c.model
    query = (
        sa.select(*(columns[name] for name in Answered._fields))
        .join(segments, segments.c.id == near.segment_id)
        .where(
            near.state == RequestState.COMPLETED, near.output_tokens.is_not(None), near.position.is_not(None)
        )
    )
    return [Answered._make(row) for row in connection.execute(query)]


def bodies(connection: sa.Connection, wanted: Sequence[Answered]) -> Iterator[tuple[Answered, bytes]]:
    """Yield those of these requests that still have params, with them; one segment is unpacked at a time."""
    by_segment: defaultdict[int, list[Answered]] = defaultdict(list)
    for one in wanted:
        by_segment[one.segment_id].append(one)
    for segment_id, params in packed.bodies(connection, tables.params, by_segment):
        for one in by_segment[segment_id]:
            if body := params[one.position]:
                yield one, body
