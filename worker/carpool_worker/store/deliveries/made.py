"""SQL about deliveries as they come into being, for whoever wants a copy of each."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from carpool_worker.models.deliveries import REST
from carpool_worker.models.tables import deliveries
from carpool_worker.store.deliveries.outcomes import Claimed


def since(connection: sa.Connection, first: int, known: Collection[int]) -> list[Claimed]:
    """Return the rows about whole segments of answers from the id `first` on, oldest first, but for known ones.

    They are as if nothing of them had been made, and nobody claims them.
    """
    row = deliveries.c
    named = (
        row.answer_id,
        row.channel,
        row.target,
        row.receiver,
        row.client,
        row.pending,
        row.delivered,
        row.progress,
        row.due_at,
    )
    query = sa.select(*named).where(row.answer_id >= first, row.position == REST).order_by(row.answer_id)
    return [
        Claimed(
            answer_id=one.answer_id,
            position=REST,
            request_id=None,
            channel=one.channel,
            target=one.target,
            receiver=one.receiver,
            client=one.client,
            attempt=1,
            claim=0,
            pending=one.pending + one.delivered if one.progress is None else len(one.progress),
            progress=None,
            due_at=one.due_at,
        )
        for one in connection.execute(query)
        if one.answer_id not in known
    ]
