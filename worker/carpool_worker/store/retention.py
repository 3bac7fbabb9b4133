"""SQL about pruning: params and answers of requests that ended long ago, batch by batch, old tries and cancel commands.

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
    """A table of bodies, and the column of `batches` for the time at which a batch's bodies were pruned."""

    bodies: sa.Table
    pruned_at: sa.ColumnElement[int | None]
    kept: sa.ColumnElement[bool]  # the condition that a batch's bodies are not pruned yet
    awaited: sa.ColumnElement[bool]  # the condition that a body is still to be delivered


def awaits_delivery(request_id: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Return the condition that a request's answer is still to be delivered to its callback."""
    return sa.exists().where(
        deliveries.c.request_id == request_id, deliveries.c.state.not_in(FINAL_DELIVERIES)
    )


PARAMS = Content(params, batches.c.params_pruned_at, PARAMS_KEPT, sa.false())
ANSWERS = Content(answers, batches.c.answers_pruned_at, ANSWERS_KEPT, awaits_delivery(answers.c.request_id))


def unpruned(connection: sa.Connection, content: Content, before: int) -> list[str]:
    """Return the batches opened before then that may have content, finished or not.

    A request can be final long before its batch is: for example one canceled in an open batch.
    """
    opened = sa.select(batches.c.id).where(content.kept, batches.c.opened_at <= before)
    return list(connection.scalars(opened))


def prunable(connection: sa.Connection, content: Content, batch_id: str, before: int) -> list[str]:
    """Return the requests of a batch that ended before then, with content that is no longer to be delivered."""
    ended = (
        sa.select(requests.c.id)
        .join(content.bodies, content.bodies.c.request_id == requests.c.id)
        .where(requests.c.batch_id == batch_id, requests.c.finished_at <= before, ~content.awaited)
    )
    return list(connection.scalars(ended))


def prune(connection: sa.Connection, content: Content, ids: Sequence[str]) -> int:
    """Delete these requests' content, except answers whose delivery an operator has replayed in the meantime."""
    gone = sa.delete(content.bodies).where(content.bodies.c.request_id.in_(ids), ~content.awaited)
    return connection.execute(gone).rowcount


def is_pruned(connection: sa.Connection, content: Content, batch_id: str) -> bool:
    """Return whether a batch is finished and neither has content nor can get any."""
    body = sa.exists().where(content.bodies.c.request_id == requests.c.id)
    kept = sa.exists().where(requests.c.batch_id == batch_id, sa.or_(requests.c.finished_at.is_(None), body))
    finished = sa.select(batches.c.id).where(
        batches.c.id == batch_id, batches.c.finished_at.is_not(None), ~kept
    )
    return connection.scalar(finished) is not None


def record_pruned(connection: sa.Connection, content: Content, batch_id: str, now: int) -> None:
    """Record that a batch's content is pruned, so that the pruner skips it from now on."""
    connection.execute(sa.update(batches).where(batches.c.id == batch_id).values({content.pruned_at: now}))


def prune_attempts(connection: sa.Connection, before: int, limit: int) -> int:
    """Delete up to `limit` tries to deliver that were made before then, oldest first; return how many."""
    oldest = sa.select(attempts.c.id).order_by(attempts.c.id).limit(limit)  # ids ascend with time
    gone = sa.delete(attempts).where(attempts.c.id.in_(oldest.scalar_subquery()), attempts.c.at <= before)
    return connection.execute(gone).rowcount


def prune_cancellations(connection: sa.Connection, before: int, limit: int) -> int:
    """Delete up to `limit` cancel commands from before then; return how many."""
    key = sa.tuple_(cancellations.c.request_id, cancellations.c.client)
    old = sa.select(*key.clauses).where(cancellations.c.requested_at <= before).limit(limit)
    return connection.execute(sa.delete(cancellations).where(key.in_(old))).rowcount
