"""SQL about batches at Anthropic that no batch of ours owns: orphans of ours, and strangers."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from carpool_worker.claude.batch import RemoteBatch
from carpool_worker.models import Batch, UnownedBatch
from carpool_worker.models.indexes import ORPHANED, STRANGE, UNSETTLED
from carpool_worker.models.tables import batches, unowned
from carpool_worker.store.upserts import insert_missing
from carpool_worker.units import Milliseconds


def add_orphan(
    connection: sa.Connection, batch: Batch, remote: RemoteBatch, at: Milliseconds, *, is_lost: bool = False
) -> bool:
    """Keep the id of a batch at Anthropic with the requests of `batch`, which has another; False if it was known.

    With `is_lost` nobody posted it, as far as the tables know: they have lost rows. It is left to run.
    """
    orphan = {
        "claude_id": remote.id,
        "account": batch.account,
        "headers": batch.headers,
        "batch_id": batch.id,
        "request_count": remote.request_count or 0,
        "found_at": at,
        "settled_at": at if is_lost else None,
        "is_lost": is_lost,
    }
    return insert_missing(connection, unowned, [orphan]) == 1


def add_stranger(
    connection: sa.Connection, remote: RemoteBatch, headers: str, at: Milliseconds, *, is_lost: bool = False
) -> None:
    """Remember that a batch at Anthropic has no request that the tables know, as its results have shown.

    With `is_lost` their names are such as Carpool gives: the tables may have known them.
    """
    stranger = {
        "claude_id": remote.id,
        "headers": headers,
        "request_count": remote.request_count or 0,
        "found_at": at,
        "settled_at": at,
        "is_lost": is_lost,
    }
    insert_missing(connection, unowned, [stranger])


def notes(connection: sa.Connection, claude_ids: Sequence[str]) -> dict[str, UnownedBatch]:
    """Return what is known of those of these batches at Anthropic of which something is, by Anthropic's id."""
    known = connection.execute(sa.select(unowned).where(unowned.c.claude_id.in_(claude_ids)))
    return {row.claude_id: UnownedBatch(**row._mapping) for row in known}


def count_twice(connection: sa.Connection, claude_id: str, requests: int) -> None:
    """Record how many requests of ours an orphan's results answer."""
    read = sa.update(unowned).where(unowned.c.claude_id == claude_id)
    connection.execute(read.values(run_twice=requests))


def sum_twice(connection: sa.Connection) -> int:
    """Return how many requests of ours all orphans have answered that were found."""
    return int(connection.scalar(sa.select(sa.func.sum(unowned.c.run_twice)).where(ORPHANED)) or 0)


def has_lost_rows(connection: sa.Connection, since: int) -> bool:
    """Return whether the tables seem to have lost rows: a batch was found, or adopted, that they should have known."""
    found = unowned.c.found_at >= since, unowned.c.is_lost
    orphaned = sa.select(unowned.c.claude_id).where(ORPHANED, *found)
    adopted = sa.select(unowned.c.claude_id).join(batches, batches.c.claude_id == unowned.c.claude_id)
    return any(
        connection.scalar(lost.limit(1)) is not None for lost in (orphaned, adopted.where(STRANGE, *found))
    )


def unsettled(connection: sa.Connection) -> list[UnownedBatch]:
    """Return the orphans that are still to be canceled, the oldest first."""
    waiting = sa.select(unowned).where(UNSETTLED, ORPHANED).order_by(unowned.c.found_at)
    return [UnownedBatch(**row._mapping) for row in connection.execute(waiting)]


def settle(connection: sa.Connection, claude_id: str, at: Milliseconds) -> None:
    """Record that nothing is left to do about a batch: it is canceled, or has ended."""
    settled = sa.update(unowned).where(unowned.c.claude_id == claude_id, UNSETTLED)
    connection.execute(settled.values(settled_at=at))


def orphans_since(connection: sa.Connection, at: int) -> list[UnownedBatch]:
    """Return the orphans that were found since then, the oldest first."""
    found = sa.select(unowned).where(ORPHANED, unowned.c.found_at >= at).order_by(unowned.c.found_at)
    return [UnownedBatch(**row._mapping) for row in connection.execute(found)]


def orphans_of(connection: sa.Connection, batch_id: str) -> list[UnownedBatch]:
    """Return the orphans that have a batch's requests, the oldest first."""
    found = sa.select(unowned).where(ORPHANED, unowned.c.batch_id == batch_id).order_by(unowned.c.found_at)
    return [UnownedBatch(**row._mapping) for row in connection.execute(found)]


def count_orphans(connection: sa.Connection) -> int:
    """Count all orphans that were ever found."""
    return int(connection.scalar(sa.select(sa.func.count()).select_from(unowned).where(ORPHANED)) or 0)
