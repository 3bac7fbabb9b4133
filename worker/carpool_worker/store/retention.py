"""What is no longer kept, in SQL: bodies of requests that ended long ago, a batch at a time, and what else grows old.

The rows of `requests`, `batches` and `usage` are the ledger and stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from carpool_worker.models.indexes import ANSWERS_KEPT, PARAMS_KEPT
from carpool_worker.models.tables import (
    answers,
    attempts,
    batches,
    cancellations,
    deliveries,
    params,
    requests,
)
from carpool_worker.states import DeliveryState

FINAL_DELIVERIES = (DeliveryState.DELIVERED, DeliveryState.DISCARDED)


@dataclass(frozen=True)
class Content:
    """A table of bodies, and the column of `batches` that says when a batch's were pruned."""

    bodies: sa.Table
    pruned_at: sa.ColumnElement[int | None]
    kept: sa.ColumnElement[bool]  # the condition that they were not pruned yet
    awaited: sa.ColumnElement[bool]  # somebody still has to get it


def awaits_delivery(request_id: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Return the condition that a request's answer is still on its way to its callback."""
    return sa.exists().where(
        deliveries.c.request_id == request_id, deliveries.c.state.not_in(FINAL_DELIVERIES)
    )


PARAMS = Content(params, batches.c.params_pruned_at, PARAMS_KEPT, sa.false())
ANSWERS = Content(answers, batches.c.answers_pruned_at, ANSWERS_KEPT, awaits_delivery(answers.c.request_id))


def unpruned(connection: sa.Connection, content: Content, before: int) -> list[str]:
    """Return the batches opened before then that may hold content.

    Finished or not: a request can be final long before its batch is, as when it was canceled in an open one.
    """
    opened = sa.select(batches.c.id).where(content.kept, batches.c.opened_at <= before)
    return list(connection.scalars(opened))


def prunable(connection: sa.Connection, content: Content, batch_id: str, before: int) -> list[str]:
    """Return the requests of a batch that ended before then and whose content is there and awaited by nobody."""
    ended = (
        sa.select(requests.c.id)
        .join(content.bodies, content.bodies.c.request_id == requests.c.id)
        .where(requests.c.batch_id == batch_id, requests.c.finished_at <= before, ~content.awaited)
    )
    return list(connection.scalars(ended))


def prune(connection: sa.Connection, content: Content, ids: Sequence[str]) -> int:
    """Delete these requests' content, unless an operator has just sent an answer on its way again."""
    gone = sa.delete(content.bodies).where(content.bodies.c.request_id.in_(ids), ~content.awaited)
    return connection.execute(gone).rowcount


def is_pruned(connection: sa.Connection, content: Content, batch_id: str) -> bool:
    """Tell whether a batch is finished and neither has content nor can get any."""
    body = sa.exists().where(content.bodies.c.request_id == requests.c.id)
    kept = sa.exists().where(requests.c.batch_id == batch_id, sa.or_(requests.c.finished_at.is_(None), body))
    finished = sa.select(batches.c.id).where(
        batches.c.id == batch_id, batches.c.finished_at.is_not(None), ~kept
    )
    return connection.scalar(finished) is not None


def note_pruned(connection: sa.Connection, content: Content, batch_id: str, now: int) -> None:
    """Look at a batch no more."""
    connection.execute(sa.update(batches).where(batches.c.id == batch_id).values({content.pruned_at: now}))


def prune_attempts(connection: sa.Connection, before: int, limit: int) -> int:
    """Delete up to `limit` tries to deliver that were made before then, oldest first; return how many."""
    oldest = sa.select(attempts.c.id).order_by(attempts.c.id).limit(limit)  # ids are given in order of time
    gone = sa.delete(attempts).where(attempts.c.id.in_(oldest.scalar_subquery()), attempts.c.at <= before)
    return connection.execute(gone).rowcount


def prune_cancellations(connection: sa.Connection, before: int, limit: int) -> int:
    """Delete up to `limit` wishes to cancel of before then; return how many."""
    key = sa.tuple_(cancellations.c.request_id, cancellations.c.client)
    old = sa.select(*key.clauses).where(cancellations.c.requested_at <= before).limit(limit)
    return connection.execute(sa.delete(cancellations).where(key.in_(old))).rowcount
