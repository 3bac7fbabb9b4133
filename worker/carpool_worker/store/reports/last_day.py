"""SQL about the last day: how many requests were answered in each hour, and how long their batches took."""

from __future__ import annotations

from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool_worker.models.tables import batches
from carpool_worker.store.reports import ids
from carpool_worker.store.reports.status import LONGEST_LIFE
from carpool_worker.units import HOUR, SECOND, Milliseconds

MINUTE = 60 * SECOND

FINE = 10 * MINUTE
"""Times up to this are told apart by the second, longer ones by the minute."""

MOST_GROUPS = 20_000
"""Hours times lengths of time: more than a day has."""


class EndedInHour(NamedTuple):
    """The batches that ended in an hour, and took so long."""

    hour: int  # since the epoch
    seconds: int  # from the first request of each to its answers
    succeeded: int
    failed: int


def ended_since(connection: sa.Connection, at: Milliseconds) -> list[EndedInHour]:
    """Return what ended since then, by hour and how long it took."""
    row = batches.c
    took = row.finished_at - row.opened_at
    seconds = sa.case((took < FINE, took / SECOND), else_=took / MINUTE * 60)
    counts = [sa.func.sum(row.succeeded), sa.func.sum(row.errored + row.expired)]
    hour = row.finished_at / HOUR
    whole: list[sa.ColumnElement[Any]] = [
        sa.cast(sa.func.floor(one), sa.BigInteger) for one in (hour, seconds)
    ]
    counted = sa.select(*whole, *counts)
    lately = counted.where(row.id >= ids.since(at - LONGEST_LIFE), row.finished_at >= at)
    places: list[sa.ColumnElement[Any]] = [sa.literal_column("1"), sa.literal_column("2")]
    grouped = lately.group_by(*places).order_by(*places).limit(MOST_GROUPS)
    return [EndedInHour(*(int(one or 0) for one in found)) for found in connection.execute(grouped)]
