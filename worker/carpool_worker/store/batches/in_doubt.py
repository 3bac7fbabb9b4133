"""SQL about batches in doubt: the answer to their post was lost, and the rescuer looks for them at Anthropic."""

from __future__ import annotations

import json
from collections.abc import Sequence

import sqlalchemy as sa

from carpool_worker.models import Batch
from carpool_worker.models.indexes import UNFINISHED
from carpool_worker.models.tables import batches
from carpool_worker.states import BatchState
from carpool_worker.store.batches.rows import as_batch


def undecided(connection: sa.Connection, batch_id: str, submission: int) -> Batch | None:
    """Return the batch, locked until the transaction ends; None unless the outcome of this post of it is still open."""
    undecided = sa.select(batches).where(
        batches.c.id == batch_id,
        batches.c.state == BatchState.SUBMITTING,
        batches.c.submissions == submission,
    )
    row = connection.execute(undecided.with_for_update()).one_or_none()
    return None if row is None else as_batch(row)


def begin(connection: sa.Connection, batch_id: str, error: str, at: int) -> None:
    """Record that the answer to a batch's post was lost; any search for it starts again."""
    lost = {"in_doubt_at": at, "search_started_at": None, "last_error": error}
    connection.execute(sa.update(batches).where(batches.c.id == batch_id).values(lost))


def disown(connection: sa.Connection, batch: Batch, claude_id: str) -> None:
    """Remember that this batch at Anthropic is not ours."""
    disowned = json.dumps([*json.loads(batch.disowned_ids), claude_id])
    connection.execute(sa.update(batches).where(batches.c.id == batch.id).values(disowned_ids=disowned))


def begin_search(connection: sa.Connection, batch: Batch, at: int) -> None:
    """Record when a batch in doubt was first not found, unless its doubt has begun again since it was read."""
    row = batches.c
    same = sa.and_(
        row.submissions == batch.submissions, row.in_doubt_at.is_not_distinct_from(batch.in_doubt_at)
    )
    began = sa.update(batches).where(row.id == batch.id, row.state == BatchState.SUBMITTING, same)
    connection.execute(began.where(row.search_started_at.is_(None)).values(search_started_at=at))


def known(connection: sa.Connection, claude_ids: Sequence[str]) -> set[str]:
    """Return those of Anthropic's ids that our batches have."""
    return set(connection.scalars(sa.select(batches.c.claude_id).where(batches.c.claude_id.in_(claude_ids))))


def any_adopted(connection: sa.Connection, claude_ids: Sequence[str]) -> bool:
    """Return whether a batch of ours has adopted one of these ids, and its results have not confirmed it yet."""
    adopted = sa.select(batches.c.id).where(
        batches.c.claude_id.in_(claude_ids),
        batches.c.in_doubt_at.is_not(None),
        UNFINISHED,
    )
    return connection.scalar(adopted.limit(1)) is not None
