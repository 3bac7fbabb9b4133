"""Refused submissions in SQL: how often each model's batches met each status, for as long as the database is kept."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from carpool_worker.models.tables import refusals
from carpool_worker.store.upserts import upsert


class Refused(NamedTuple):
    """How often the batches of a model were refused with a status: HTTP's, or what took its place."""

    model: str
    status: str
    times: int


def add(connection: sa.Connection, model: str, status: str) -> None:
    """Count one more refusal."""
    upsert(connection, refusals, [{"model": model, "status": status, "count": 1}], add=("count",))


def counted(connection: sa.Connection) -> list[Refused]:
    """Return all that was counted."""
    row = refusals.c
    return [Refused._make(found) for found in connection.execute(sa.select(row.model, row.status, row.count))]
