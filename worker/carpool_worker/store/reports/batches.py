"""Batches as an operator looks at them: a page of them, one of them, and what became of its requests."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from carpool_worker.models import Batch
from carpool_worker.models.tables import batches, requests
from carpool_worker.states import BatchState


def page(
    connection: sa.Connection,
    limit: int,
    states: Sequence[BatchState] = (),
    model: str | None = None,
    since: int | None = None,
    before: str | None = None,
    after: str | None = None,
) -> list[Batch]:
    """Return the newest `limit` batches, newest last: those made before the batch `before`, or the next after `after`.

    `since` is milliseconds since the epoch: those opened then or later.
    """
    chosen = sa.select(batches).limit(limit)
    if states:
        chosen = chosen.where(batches.c.state.in_(states))
    if model:
        chosen = chosen.where(batches.c.model == model)
    if since is not None:
        chosen = chosen.where(batches.c.opened_at >= since)
    if before:
        chosen = chosen.where(batches.c.id < before)
    if after:
        following = connection.execute(chosen.where(batches.c.id > after).order_by(batches.c.id))
        return [Batch(**row._mapping) for row in following]
    newest = connection.execute(chosen.order_by(batches.c.id.desc())).all()
    return [Batch(**row._mapping) for row in reversed(newest)]


def find(connection: sa.Connection, named: str) -> Batch | None:
    """Return the batch that has this id, here or at Anthropic."""
    found = sa.select(batches).where(sa.or_(batches.c.id == named, batches.c.claude_id == named))
    row = connection.execute(found).one_or_none()
    return None if row is None else Batch(**row._mapping)


def parts(connection: sa.Connection, batch_id: str) -> list[str]:
    """Return the ids of the batches that a rejected one was split into."""
    return list(
        connection.scalars(
            sa.select(batches.c.id).where(batches.c.parent_id == batch_id).order_by(batches.c.id)
        )
    )


def request_states(connection: sa.Connection, batch_id: str) -> dict[str, int]:
    """Return how many of the requests that are in a batch are in which state."""
    counted = sa.select(requests.c.state, sa.func.count()).where(requests.c.batch_id == batch_id)
    return {str(state): count for state, count in connection.execute(counted.group_by(requests.c.state))}
