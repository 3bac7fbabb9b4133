"""SQL about the metrics: sums over the batches and the newest tries, and two counts that read whole tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from carpool_worker.models.deliveries import REST
from carpool_worker.models.indexes import UNFINISHED
from carpool_worker.models.tables import attempts, batches, deliveries, requests
from carpool_worker.states import OUTCOMES, BatchState, DeliveryState
from carpool_worker.store.deliveries import coverage
from carpool_worker.units import SECOND

NEWEST_TRIES = 5_000
"""Only the newest tries to deliver are read: a table of millions has no index by time."""

STAYS = {
    BatchState.OPEN: ("opened_at", "sealed_at"),
    BatchState.SEALED: ("sealed_at", "submitting_at"),
    BatchState.SUBMITTING: ("submitting_at", "in_progress_at"),
    BatchState.IN_PROGRESS: ("in_progress_at", "ended_at"),
    BatchState.ENDED: ("ended_at", "finished_at"),
}
"""The columns between whose times a batch was in each state; of several posts, the last counts."""


class ModelBatchCounts(NamedTuple):
    """The batches of one model in one state; `opened_at`, in milliseconds since the epoch, is of the oldest."""

    model: str
    state: BatchState
    batches: int
    requests: int
    opened_at: int


class Gone(NamedTuple):
    """The ends of all batches of a model so far, and the sums over all, unfinished ones included; each post counts."""

    model: str
    completed: int
    rejected: int
    submissions: int
    succeeded: int
    errored: int
    canceled: int
    expired: int


class Stay(NamedTuple):
    """How long finished batches were in one state: how many within each bound, how many in all, and the total time."""

    state: BatchState
    within: Sequence[int]
    batches: int
    milliseconds: int


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


def gone(connection: sa.Connection) -> list[Gone]:
    """Sum over all batches so far, by model."""
    row = batches.c
    ends = [_count(row.state == state) for state in (BatchState.COMPLETED, BatchState.REJECTED)]
    sums = [sa.func.sum(row[name]) for name in ("submissions", *OUTCOMES)]
    found = connection.execute(sa.select(row.model, *ends, *sums).group_by(row.model))
    return [Gone(model, *(int(number) for number in numbers)) for model, *numbers in found]


def stays(connection: sa.Connection, bounds: Sequence[float]) -> list[Stay]:
    """Return how long all finished batches were in each state; `bounds` are seconds. One statement for all."""
    columns: list[sa.ColumnElement[int]] = []
    for begin, end in STAYS.values():
        took = batches.c[end] - batches.c[begin]
        columns += [_count(took <= bound * SECOND) for bound in bounds]
        columns += [_count(took.is_not(None)), sa.func.coalesce(sa.func.sum(_at_least_0(took)), 0)]
    query = sa.select(*columns).where(batches.c.finished_at.is_not(None))
    numbers = [int(number) for number in connection.execute(query).one()]
    width = len(bounds) + 2
    slices = [numbers[start : start + width] for start in range(0, len(numbers), width)]
    return [Stay(state, cut[:-2], *cut[-2:]) for state, cut in zip(STAYS, slices, strict=True)]


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
    """Count the requests by state and attempt; reads the whole table."""
    row = requests.c
    numbers = (sa.func.count(), sa.func.min(sa.case((row.held_at.is_(None), row.enqueued_at))))
    counted = sa.select(row.state, row.attempt, *numbers).group_by(row.state, row.attempt)
    return [RequestCount(state.value, *rest) for state, *rest in connection.execute(counted)]


def count_deliveries(connection: sa.Connection) -> dict[tuple[str, str], int]:
    """Count the deliveries by channel and state; reads the whole table."""
    row = deliveries.c
    counted = sa.select(row.channel, row.state, sa.func.sum(row.pending), sa.func.sum(row.delivered))
    counts = Counter[tuple[str, str]]()
    for channel, state, pending, delivered in connection.execute(counted.group_by(row.channel, row.state)):
        counts[channel, state.value] += int(pending)
        counts[channel, DeliveryState.DELIVERED.value] += int(delivered)
    return {key: count for key, count in counts.items() if count}


def _count(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.count(sa.case((condition, 1)))


def _at_least_0(number: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    # Anthropic's clock and the local one may differ a little.
    return sa.case((number < 0, 0), else_=number)
