"""Refused submissions in SQL: how often each model's batches met each status, for as long as the database is kept."""

from __future__ import annotations

from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool_worker.database import is_postgres
from carpool_worker.models.tables import refusals


class Refused(NamedTuple):
    """How often the batches of a model were refused with a status: HTTP's, or what took its place."""

    model: str
    status: str
    times: int


def add(connection: sa.Connection, model: str, status: str) -> None:
    """Count one more refusal."""
    insert = _insert(connection).values(model=model, status=status, count=1)
    one_more = {"count": refusals.c.count + 1}
    connection.execute(insert.on_conflict_do_update(index_elements=["model", "status"], set_=one_more))


def counted(connection: sa.Connection) -> list[Refused]:
    """Return all that was counted."""
    row = refusals.c
    return [Refused._make(found) for found in connection.execute(sa.select(row.model, row.status, row.count))]


def _insert(connection: sa.Connection) -> Any:
    if is_postgres(connection):
        from sqlalchemy.dialects.postgresql import insert as postgres_insert

        return postgres_insert(refusals)
    from sqlalchemy.dialects.sqlite import insert as sqlite_insert

    return sqlite_insert(refusals)
