"""Splits a batch that Anthropic will never accept, until the request at fault is alone and fails alone."""

from __future__ import annotations

import sqlalchemy as sa

from carpool_worker.database import now
from carpool_worker.exceptions import ClaudeError
from carpool_worker.models import Batch
from carpool_worker.store.batches import transitions
from carpool_worker.store.batches.filling import transfer
from carpool_worker.store.requests import rows as requests
from carpool_worker.store.requests.endings import discard


def reject(connection: sa.Connection, batch: Batch, error: ClaudeError) -> list[str]:
    """Reject a batch: split it in halves and return their ids, or discard its only request with the error."""
    at = now()
    waiting = requests.sizes(connection, batch.id)
    if len(waiting) > 1:
        return split(connection, batch, str(error))
    transitions.reject(connection, batch.id, error=str(error), at=at)
    discard(connection, batch.id, [request_id for request_id, _ in waiting], error, at)
    return []


def split(connection: sa.Connection, batch: Batch, why: str) -> list[str]:
    """Reject a batch because of `why`; return the ids of two sealed batches, each as old as it, with half of it."""
    at = now()
    transitions.reject(connection, batch.id, error=why, at=at)
    waiting = requests.sizes(connection, batch.id)
    middle = len(waiting) // 2
    halves = filter(None, (waiting[:middle], waiting[middle:]))
    return [transfer(connection, batch, half, at)[0] for half in halves]
