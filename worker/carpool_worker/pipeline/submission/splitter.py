"""Splits a batch that Anthropic refuses: in halves, off a request at fault, or off a request to try the lane with."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from carpool_worker.database import now
from carpool_worker.exceptions import ClaudeError
from carpool_worker.models import Batch
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.batches import transitions
from carpool_worker.store.batches.filling import transfer
from carpool_worker.store.requests import bodies
from carpool_worker.store.requests import rows as requests
from carpool_worker.store.requests.endings import discard


def split(connection: sa.Connection, batch: Batch, why: str) -> list[str]:
    """Reject a batch because of `why`; return the ids of two sealed batches, each as old as it, with half of it."""
    return _divide(connection, batch, why, batch.request_count // 2)


def split_first(connection: sa.Connection, batch: Batch, why: str) -> list[str]:
    """Reject a batch because of `why`; return the ids of two sealed batches, with its first request and the others."""
    return _divide(connection, batch, why, 1)


def take_out(
    connection: sa.Connection, batch: Batch, places: Collection[int], error: ClaudeError
) -> list[str]:
    """Discard the requests at these places of a batch's body with the error; return the id of a batch of the others."""
    in_order = bodies.ids_of_batch(connection, batch.id, batches.marked(connection, batch.id))
    named = [in_order[place] for place in places if place < len(in_order)]
    at = now()
    transitions.reject(connection, batch.id, error=str(error), at=at)
    discard(connection, batch.id, named, error, at)
    left = requests.sizes(connection, batch.id)
    return [transfer(connection, batch, left, at)[0]] if left else []


def discard_only(connection: sa.Connection, batch: Batch, error: ClaudeError) -> None:
    """Reject a batch, and discard its only request with the error."""
    at = now()
    transitions.reject(connection, batch.id, error=str(error), at=at)
    discard(connection, batch.id, [id_ for id_, _ in requests.sizes(connection, batch.id)], error, at)


def _divide(connection: sa.Connection, batch: Batch, why: str, middle: int) -> list[str]:
    at = now()
    transitions.reject(connection, batch.id, error=why, at=at)
    waiting = requests.sizes(connection, batch.id)
    parts = filter(None, (waiting[:middle], waiting[middle:]))
    return [transfer(connection, batch, part, at)[0] for part in parts]
