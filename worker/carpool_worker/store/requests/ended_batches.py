"""Deliveries of the ends of clients' batches. They go the way of answers, in a segment of answers of their own.

What is sent is made of the batch's row when it is sent, so the segment holds nothing but the batch's id.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from carpool.segments import pack
from carpool_worker.models import ClientBatch
from carpool_worker.store.client_batches import rows as client_batches
from carpool_worker.store.client_batches.counts import EndedBatch
from carpool_worker.store.deliveries import rows as deliveries
from carpool_worker.store.deliveries.rows import NewDelivery
from carpool_worker.store.requests.segments import AnswersSegment, insert_answers, new_id

EMPTY = b"{}"
"""Stored in place of an answer."""


def tell(connection: sa.Connection, ended: Iterable[EndedBatch], at: int) -> None:
    """Insert a delivery, due at once, for each of these batches that has a callback."""
    told = [
        (AnswersSegment(new_id(), one.client, [one.id], pack([EMPTY])), one.callback)
        for one in ended
        if one.callback
    ]
    insert_answers(connection, [segment for segment, _ in told])
    deliveries.insert(
        connection, [NewDelivery(segment.id, segment.client, to, 1) for segment, to in told], at
    )


def ended(connection: sa.Connection, ids: Iterable[str]) -> dict[str, ClientBatch]:
    """Return those of these ids that are clients' batches which have ended."""
    known = client_batches.by_id(connection, ids)
    return {id_: batch for id_, batch in known.items() if batch.ended_at is not None}
