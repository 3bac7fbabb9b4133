"""Reads the params of a batch's requests for its body, segment by segment."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from carpool_worker.exceptions import ParamsGone
from carpool_worker.models.tables import params, requests
from carpool_worker.store.requests import segments
from carpool_worker.store.requests.rows import BATCHED

STREAMED_ROWS = 2_000
"""Rows read from the database at a time."""

PAGE_BYTES = 8_000_000
"""Of params read at a time, and those of one more segment: a request may have 32 MB."""

_SEGMENT = itemgetter(0)

Run = tuple[int, list[Any]]
"""A segment's id, and rows of requests whose params it has."""


def of_batch(
    connection: sa.Connection, batch_id: str, together: Collection[str]
) -> Iterator[tuple[str, bytes]]:
    """Yield the id and the params of each request of a batch.

    Requests with a prefix among `together` come first, ordered by it; all others are in the order of their segments.
    Few are in memory at a time.

    Raises:
        ParamsGone: a request was canceled and purged since its id was read.
    """
    row = requests.c
    query = sa.select(row.segment_id, row.position, row.id, row.params_bytes)
    ordered = query.where(*_waiting(batch_id)).order_by(*_order(together))
    streamed = connection.execute(
        ordered, execution_options={"stream_results": True, "yield_per": STREAMED_ROWS}
    )
    for page in _pages((segment_id, list(run)) for segment_id, run in groupby(streamed, key=_SEGMENT)):
        kept = dict(segments.bodies(connection, params, {segment_id for segment_id, _ in page}))
        for segment_id, rows in page:
            all_ = kept.get(segment_id, ())
            for _, position, request_id, _ in rows:
                if not all_ or position is None or not all_[position]:
                    raise ParamsGone
                yield request_id, all_[position]


def _pages(runs: Iterable[Run]) -> Iterator[list[Run]]:
    page: list[Run] = []
    size = 0
    for segment_id, rows in runs:
        page.append((segment_id, rows))
        size += sum(one.params_bytes for one in rows)
        if len(page) == segments.PAGE or size >= PAGE_BYTES:
            yield page
            page, size = [], 0
    if page:
        yield page


def ids_of_batch(connection: sa.Connection, batch_id: str, together: Collection[str]) -> list[str]:
    """Return the ids of the requests of a batch, in the order in which `of_batch` yields them."""
    row = requests.c
    return list(connection.scalars(sa.select(row.id).where(*_waiting(batch_id)).order_by(*_order(together))))


def _waiting(batch_id: str) -> list[sa.ColumnElement[bool]]:
    row = requests.c
    return [row.batch_id == batch_id, sa.type_coerce(row.state, sa.Text) == BATCHED]


def _order(together: Collection[str]) -> list[sa.ColumnElement[Any]]:
    # A segment is read once for each of these prefixes that it has: with all prefixes, that could be very often.
    row = requests.c
    prefix = [sa.nulls_last(sa.case((row.prefix.in_(together), row.prefix)))] if together else []
    return [*prefix, row.segment_id, row.position]
