"""SQL that counts refused submissions, by model and status, over the life of the database."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from carpool_worker.models.tables import refusals
from carpool_worker.store.upserts import upsert


class RefusalCount(NamedTuple):
    """How often submissions of a model's batches failed with a status: HTTP's, or a word where no answer came."""

    model: str
    status: str
    times: int


def add(connection: sa.Connection, model: str, status: str) -> None:
    """Count one more refusal."""
    upsert(connection, refusals, [{"model": model, "status": status, "count": 1}], add=("count",))


def counted(connection: sa.Connection) -> list[RefusalCount]:
    """Return all counts."""
    row = refusals.c
    return [
        RefusalCount._make(found) for found in connection.execute(sa.select(row.model, row.status, row.count))
    ]
