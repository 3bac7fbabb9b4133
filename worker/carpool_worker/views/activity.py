"""What moves: the requests by where they are, deliveries, and money; in a line that is read every second."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import redis
import sqlalchemy as sa

from carpool_worker.database import now, read
from carpool_worker.formatting import dollars
from carpool_worker.pipeline.inbox import shards
from carpool_worker.states import OUT_BATCH_STATES, BatchState
from carpool_worker.store.reports import status as report
from carpool_worker.store.reports.status import Deliveries, Finished
from carpool_worker.units import DAY, SECOND, Milliseconds

RATED = 10
"""Minutes over which rates are taken."""


@dataclass(frozen=True)
class Activity:
    """How many requests are where, what became of those that have ended since a moment, and how fast they come and go.

    `taken` is how many requests a minute were taken out of the inbox lately, `answered` how many answers were stored.
    """

    inbox: int
    pooling: int
    out: int  # at Anthropic
    collecting: int
    retryable: int
    finished: Finished
    deliveries: Deliveries
    taken: float
    answered: float

    @property
    def is_idle(self) -> bool:
        """Whether nothing has come yet, and nothing waits."""
        return not any(count for count, _ in self._counts())

    def __str__(self) -> str:
        counts = " · ".join(f"{count:,} {what}" for count, what in self._counts() if count)
        done = self.finished
        if done.cost is None or done.list_price is None:
            return counts or "no requests yet"
        return f"{counts} · {dollars(done.cost)} spent, {dollars(done.list_price - done.cost)} saved"

    def _counts(self) -> Iterator[tuple[int, str]]:
        done, due = self.finished, self.deliveries
        yield self.inbox, "in the inbox"
        yield self.pooling, "pooling"
        yield self.out, "at Claude"
        yield self.collecting, "collecting"
        yield self.retryable, "to be tried again"
        yield done.succeeded, "answered"
        yield done.errored + done.expired, "failed"
        yield done.canceled, "canceled"
        yield due.due.rows, "to deliver"
        yield due.retryable.rows, "to deliver again"
        yield due.dead_lately, "not deliverable"


def activity(engine: sa.Engine, server: redis.Redis, since: Milliseconds) -> Activity:
    """Return what moves now, and what has ended since then.

    Raises:
        redis.RedisError, sqlalchemy.exc.OperationalError: Redis or the database is away.
    """
    inbox, at = shards.queued(server), now()
    with read(engine) as connection:
        counts = {one.state: one.requests for one in report.unfinished(connection)}
        taken, answered = report.stored_since(connection, Milliseconds(at - RATED * 60 * SECOND))
        return Activity(
            inbox=inbox,
            pooling=sum(counts.get(state, 0) for state in BatchState if state not in _COUNTED),
            out=sum(counts.get(state, 0) for state in OUT_BATCH_STATES),
            collecting=counts.get(BatchState.ENDED, 0),
            retryable=report.retryable(connection).rows,
            finished=report.finished_since(connection, since),
            deliveries=report.delivering(connection, at, max(since, Milliseconds(at - DAY))),
            taken=taken / RATED,
            answered=answered / RATED,
        )


_COUNTED = {*OUT_BATCH_STATES, BatchState.ENDED}
