"""Reads the params of a batch's requests for its body, segment by segment."""

from __future__ import annotations

from collections.abc import Collection, Iterator
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

_SEGMENT, _REST = itemgetter(0), itemgetter(1, 2)


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
    waiting = row.batch_id == batch_id, sa.type_coerce(row.state, sa.Text) == BATCHED
    # A segment is read once for each of these prefixes that it has: with all prefixes, that could be very often.
    prefix = [sa.nulls_last(sa.case((row.prefix.in_(together), row.prefix)))] if together else []
    query = sa.select(row.segment_id, row.position, row.id).where(*waiting)
    ordered = query.order_by(*prefix, row.segment_id, row.position)
    streamed = connection.execute(
        ordered, execution_options={"stream_results": True, "yield_per": STREAMED_ROWS}
    )
    runs = groupby(streamed, key=_SEGMENT)
    while page := [(segment_id, list(map(_REST, run))) for segment_id, run in _next(runs, segments.PAGE)]:
        kept = dict(segments.bodies(connection, params, {segment_id for segment_id, _ in page}))
        for segment_id, places in page:
            all_ = kept.get(segment_id, ())
            for position, request_id in places:
                if not all_ or position is None or not all_[position]:
                    raise ParamsGone
                yield request_id, all_[position]


def _next(runs: Iterator[tuple[int, Iterator[Any]]], most: int) -> Iterator[tuple[int, Iterator[Any]]]:
    # Not islice, which would move on to the next run before this one's rows are read.
    for _, run in zip(range(most), runs, strict=False):
        yield run
