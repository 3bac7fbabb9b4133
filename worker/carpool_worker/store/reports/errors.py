"""SQL about requests that ended with an error, grouped by what they have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import sqlalchemy as sa

from carpool_worker.models.indexes import FAILED
from carpool_worker.models.tables import requests, segments
from carpool_worker.store.reports import ids
from carpool_worker.store.reports.status import LONGEST_LIFE
from carpool_worker.store.requests.rows import REAL_TIME, UNBATCHED
from carpool_worker.units import Milliseconds

MOST_READ = 10_000
"""Failed requests that are read, the newest batches' first."""

SAMPLES = 3


class Failure(NamedTuple):
    """One of the newest of a group of requests; the group's first and last end are in milliseconds since the epoch."""

    error: str
    model: str
    client: str
    requests: int
    first_at: int
    last_at: int
    id: str
    finished_at: int
    place: int  # among the newest of its group, from 1


def newest(connection: sa.Connection, since: Milliseconds, client: str | None) -> Iterator[Failure]:
    """Yield the SAMPLES newest requests of each error, model and client that ended since then, with the group's counts.

    Of what was never in a batch, and of what was called in real time, groups come apart from those of batches.
    """
    row = requests.c
    batched = sa.and_(row.batch_id >= ids.since(since - LONGEST_LIFE), row.batch_id < REAL_TIME)
    for of_some in (batched, row.batch_id == REAL_TIME, row.batch_id == UNBATCHED):
        failed = sa.select(row.id, row.error, row.client, row.finished_at, row.segment_id).where(
            FAILED, of_some
        )
        if client is not None:
            failed = failed.where(row.client == client)
        yield from _grouped(connection, failed.order_by(row.batch_id.desc()).limit(MOST_READ), since)


def _grouped(connection: sa.Connection, failed: sa.Select[tuple[object, ...]], since: int) -> list[Failure]:
    one = failed.subquery("failed").c
    alike = (one.error, segments.c.model, one.client)
    place = sa.func.row_number().over(partition_by=alike, order_by=(one.finished_at.desc(), one.id))
    each = (
        sa.select(
            one.error,
            segments.c.model,
            one.client,
            sa.func.count().over(partition_by=alike).label("requests"),
            sa.func.min(one.finished_at).over(partition_by=alike).label("first_at"),
            sa.func.max(one.finished_at).over(partition_by=alike).label("last_at"),
            one.id,
            one.finished_at,
            place.label("place"),
        )
        .join(segments, segments.c.id == one.segment_id)
        .where(one.finished_at >= since)
        .subquery("each_of_a_group")
    )
    found = sa.select(*(each.c[name] for name in Failure._fields)).where(each.c.place <= SAMPLES)
    return [Failure._make(row) for row in connection.execute(found)]
