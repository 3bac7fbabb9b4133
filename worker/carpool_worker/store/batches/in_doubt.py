"""SQL about batches in doubt: the answer to their post was lost, and the rescuer looks for them at Anthropic."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

import sqlalchemy as sa

from carpool_worker.models import Batch
from carpool_worker.models.indexes import UNFINISHED
from carpool_worker.models.tables import batches
from carpool_worker.models.tables import unowned as unowned_batches
from carpool_worker.states import BatchState
from carpool_worker.store.batches.rows import as_batch

MOST_AT_ONCE = 1_000
"""Ids in one statement."""


def undecided(connection: sa.Connection, batch_id: str, submission: int) -> Batch | None:
    """Return the batch, locked until the transaction ends; None unless the outcome of this post of it is still open."""
    undecided = sa.select(batches).where(
        batches.c.id == batch_id,
        batches.c.state == BatchState.SUBMITTING,
        batches.c.submissions == submission,
    )
    row = connection.execute(undecided.with_for_update()).one_or_none()
    return None if row is None else as_batch(row)


def is_submitting(connection: sa.Connection, batch_id: str, submission: int) -> bool:
    """Return whether this post of a batch is the one that counts: nobody has given it up or taken it over."""
    ours = sa.select(batches.c.id).where(
        batches.c.id == batch_id,
        batches.c.state == BatchState.SUBMITTING,
        batches.c.submissions == submission,
    )
    return connection.scalar(ours) is not None


def begin(connection: sa.Connection, batch_id: str, error: str, at: int) -> None:
    """Record that the answer to a batch's post was lost; any search for it starts again."""
    lost = {"in_doubt_at": at, "search_started_at": None, "last_error": error}
    connection.execute(sa.update(batches).where(batches.c.id == batch_id).values(lost))


def annotate(connection: sa.Connection, batch: Batch, why: str) -> None:
    """Set why a batch stays in doubt."""
    row = batches.c
    doubted = sa.update(batches).where(row.id == batch.id, row.state == BatchState.SUBMITTING)
    differs = row.last_error.is_distinct_from(why)
    connection.execute(doubted.where(row.submissions == batch.submissions, differs).values(last_error=why))


def disown(connection: sa.Connection, batch: Batch, *claude_ids: str) -> None:
    """Remember that these batches at Anthropic are not this one of ours."""
    disowned = json.dumps([*json.loads(batch.disowned_ids), *claude_ids])
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
    return _found(connection, batches.c.claude_id, claude_ids)


def unowned(connection: sa.Connection, claude_ids: Sequence[str]) -> set[str]:
    """Return those of Anthropic's ids that are known to be no batch of ours that is missing: orphans, strangers."""
    return _found(connection, unowned_batches.c.claude_id, claude_ids)


def any_adopted(connection: sa.Connection, claude_ids: Collection[str]) -> bool:
    """Return whether a batch of ours has adopted one of these ids, and its results have not confirmed it yet."""
    row = batches.c
    adopted = sa.select(row.claude_id).where(
        UNFINISHED, row.claude_id.is_not(None), row.in_doubt_at.is_not(None)
    )
    return not set(connection.scalars(adopted)).isdisjoint(claude_ids)


def _found(connection: sa.Connection, column: sa.Column[str], ids: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(ids), MOST_AT_ONCE):
        some = ids[start : start + MOST_AT_ONCE]
        found.update(connection.scalars(sa.select(column).where(column.in_(some))))
    return found
