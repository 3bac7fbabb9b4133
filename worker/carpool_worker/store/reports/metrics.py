"""SQL about the metrics: what waits, what failed, and the newest tries, by partial indexes or among few rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import sqlalchemy as sa

from carpool_worker.models.deliveries import REST
from carpool_worker.models.indexes import (
    ASIDE,
    AVAILABLE,
    CANCEL_REQUESTED,
    DEAD,
    FAILED,
    RETRYABLE,
    UNFINISHED,
)
from carpool_worker.models.tables import attempts, batches, deliveries, requests
from carpool_worker.states import BatchState, RequestState
from carpool_worker.store.deliveries import coverage

NEWEST_TRIES = 5_000
"""Only the newest tries to deliver are read: a table of millions has no index by time."""


class ModelBatchCounts(NamedTuple):
    """The batches of one model in one state; `opened_at`, in milliseconds since the epoch, is of the oldest."""

    model: str
    state: BatchState
    batches: int
    requests: int
    opened_at: int


class RequestCount(NamedTuple):
    """Requests in one state at one attempt; `enqueued_at`, in milliseconds since the epoch, is of the oldest.

    Held requests don't count for `enqueued_at`; it is None if all are held.
    """

    state: str
    attempt: int
    requests: int
    enqueued_at: int | None


class Tries(NamedTuple):
    """Tries to deliver to one target with one status; None: no response came, or the channel has no statuses."""

    channel: str
    target: str
    status: int | None
    failed: bool
    tries: int


def unfinished(connection: sa.Connection) -> list[ModelBatchCounts]:
    """Count the unfinished batches by model and state."""
    row = batches.c
    sums = (sa.func.count(), sa.func.sum(row.request_count), sa.func.min(row.opened_at))
    counted = sa.select(row.model, row.state, *sums).where(UNFINISHED)
    found = connection.execute(counted.group_by(row.model, row.state))
    return [ModelBatchCounts(model, state, count, int(total), at) for model, state, count, total, at in found]


def tries_since(connection: sa.Connection, at: int) -> list[Tries]:
    """Count the tries to deliver since then, among the newest."""
    row = attempts.c
    columns = (row.request_id, row.at, row.status, row.detail)
    newest = sa.select(*columns).order_by(row.id.desc()).limit(NEWEST_TRIES).subquery()
    failed = sa.and_(newest.c.status.is_(None), newest.c.detail.is_not(None))
    keys = (deliveries.c.channel, deliveries.c.target, newest.c.status, failed)
    counted = sa.select(*keys, sa.func.count()).where(newest.c.at >= at)
    joined = counted.join_from(newest, requests, requests.c.id == newest.c.request_id)
    joined = joined.join(deliveries, coverage.COVERS)
    tries = [Tries._make(found) for found in connection.execute(joined.group_by(*keys))]
    return [*tries, *_successes_since(connection, at)]


def _successes_since(connection: sa.Connection, at: int) -> list[Tries]:
    """Count the deliveries that were accepted at the first try, among the newest rows; those have no tries."""
    row = deliveries.c
    columns = (row.channel, row.target, row.delivered, row.position, row.delivered_at, row.progress_at)
    newest = sa.select(*columns).order_by(row.answer_id.desc()).limit(NEWEST_TRIES).subquery().c
    lately = sa.func.coalesce(newest.delivered_at, newest.progress_at) >= at
    counted = sa.select(newest.channel, newest.target, sa.func.sum(newest.delivered))
    counted = counted.where(newest.position == REST, newest.delivered > 0, lately)
    found = connection.execute(counted.group_by(newest.channel, newest.target))
    return [Tries(channel, target, None, False, int(count)) for channel, target, count in found]


def count_requests(connection: sa.Connection) -> list[RequestCount]:
    """Count the requests by state and attempt, without those that were completed: the ledger of usage counts these."""
    row = requests.c
    unfinished = row.batch_id.in_(sa.select(batches.c.id).where(UNFINISHED)), row.finished_at.is_(None)
    canceled = CANCEL_REQUESTED, row.error.is_(None), row.state == RequestState.CANCELED
    failed = FAILED, row.state.in_((RequestState.DISCARDED, RequestState.CANCELED))
    numbers = (sa.func.count(), sa.func.min(sa.case((row.held_at.is_(None), row.enqueued_at))))
    counts: list[RequestCount] = []
    # One query for each index; an OR would read the whole table.
    for conditions in ((*unfinished, row.retry_at.is_(None)), (RETRYABLE,), failed, canceled):
        counted = sa.select(row.state, row.attempt, *numbers).where(*conditions)
        found = connection.execute(counted.group_by(row.state, row.attempt))
        counts += [RequestCount(state.value, *rest) for state, *rest in found]
    return _added(counts)


def _added(counts: Iterable[RequestCount]) -> list[RequestCount]:
    sums: dict[tuple[str, int], RequestCount] = {}
    for one in counts:
        key = one.state, one.attempt
        before = sums.get(key, one._replace(requests=0))
        oldest = min((at for at in (before.enqueued_at, one.enqueued_at) if at is not None), default=None)
        sums[key] = one._replace(requests=before.requests + one.requests, enqueued_at=oldest)
    return list(sums.values())


def count_deliveries(connection: sa.Connection) -> dict[tuple[str, str], int]:
    """Count the deliveries that are not made, by channel and state."""
    row = deliveries.c
    counts = Counter[tuple[str, str]]()
    for condition in (AVAILABLE, ASIDE, DEAD):
        counted = sa.select(row.channel, row.state, sa.func.sum(row.pending)).where(condition)
        for channel, state, pending in connection.execute(counted.group_by(row.channel, row.state)):
            counts[channel, state.value] += int(pending)
    return {key: count for key, count in counts.items() if count}
