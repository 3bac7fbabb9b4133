"""What a client does with the batches that it made at the gateway: it lists, looks, cancels, deletes, reads results.

Ids are as clients know them. Another client's batch is none, whatever is done with it.
"""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from carpool_worker.database import read, write
from carpool_worker.exceptions import BatchInProgress, NoClientBatch, NoResults
from carpool_worker.models import ClientBatch
from carpool_worker.pipeline.batching import canceler
from carpool_worker.policies.client_batches import stored_id
from carpool_worker.store.client_batches import rows
from carpool_worker.store.client_batches.rows import Page
from carpool_worker.store.requests import of_client_batches
from carpool_worker.store.requests.of_client_batches import ResultsPlan

PAGE_SEGMENTS = 20
"""Segments of answers read at a time: 5 MB at most, as a rule."""


def retrieve(engine: sa.Engine, client: str, shown: str) -> ClientBatch:
    """Return a client's batch; raises NoClientBatch."""
    with read(engine) as connection:
        return _get(connection, client, shown)


def page(
    engine: sa.Engine, client: str, limit: int, *, after_id: str | None = None, before_id: str | None = None
) -> Page:
    """Return a client's newest batches, or those just older than `after_id`, or just newer than `before_id`.

    They are newest first. Raises NoClientBatch if the client has none with this id.
    """
    with read(engine) as connection:
        older = None if after_id is None else _get(connection, client, after_id).id
        newer = None if before_id is None else _get(connection, client, before_id).id
        return rows.page(connection, client, limit, older_than=older, newer_than=newer)


def cancel(engine: sa.Engine, client: str, shown: str) -> ClientBatch:
    """Cancel a client's batch, and return it; raises NoClientBatch, BatchEnded. Again changes nothing."""
    return canceler.cancel_client_batch(engine, client, _stored(shown))


def delete(engine: sa.Engine, client: str, shown: str) -> None:
    """Delete a client's batch, which has ended; raises NoClientBatch, BatchInProgress.

    Its requests stay in the ledger, and their contents for as long as those of others.
    """
    batch_id = _stored(shown)
    with write(engine) as connection:
        if not rows.delete(connection, client, batch_id):
            if rows.get(connection, client, batch_id) is None:
                raise NoClientBatch
            raise BatchInProgress


def plan_results(engine: sa.Engine, client: str, shown: str) -> ResultsPlan:
    """Return where the results of a client's batch are, which has ended; raises NoClientBatch, NoResults."""
    with read(engine) as connection:
        batch = _get(connection, client, shown)
        if batch.ended_at is None or batch.archived_at is not None:
            raise NoResults
        return of_client_batches.plan(connection, batch.id)


def results(engine: sa.Engine, plan: ResultsPlan) -> Iterator[bytes]:
    """Yield the lines of the results, some at a time, each page in a transaction of its own: the reader may be slow."""
    ids = plan.answer_ids
    for start in range(0, len(ids), PAGE_SEGMENTS):
        with read(engine) as connection:
            some = b"".join(of_client_batches.lines(connection, plan, ids[start : start + PAGE_SEGMENTS]))
        yield some


def _get(connection: sa.Connection, client: str, shown: str) -> ClientBatch:
    batch = rows.get(connection, client, _stored(shown))
    if batch is None:
        raise NoClientBatch
    return batch


def _stored(shown: str) -> str:
    batch_id = stored_id(shown)
    if batch_id is None:
        raise NoClientBatch
    return batch_id
