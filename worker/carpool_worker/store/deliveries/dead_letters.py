"""SQL about `carpool deliveries`: those of each request, and the replay of those that were given up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool_worker import database, transition_log
from carpool_worker.models.deliveries import REST
from carpool_worker.models.indexes import ASIDE, AVAILABLE, DEAD
from carpool_worker.models.tables import answers, attempts, deliveries, requests
from carpool_worker.states import REPLAY, DeliveryState
from carpool_worker.store.deliveries import coverage, endpoints
from carpool_worker.store.deliveries.coverage import Covering

REPLAY_LOCK = 0x7265706C
"""PostgreSQL's advisory lock on the answers of dead letters: while some are replayed, none is pruned."""

PAGE = 50
"""Rows read at a time, each of up to 200 deliveries."""


class Try(NamedTuple):
    """One try to deliver; `at` is milliseconds since the epoch."""

    attempt: int
    at: int
    milliseconds: int
    status: int | None
    detail: str | None


@dataclass(frozen=True)
class DeliveryFilter:
    """Which deliveries; None is any. Times are milliseconds since the epoch."""

    ids: Sequence[str] | None = None  # of requests
    client_batches: Sequence[str] | None = None  # ids of clients' batches, whose ends are delivered
    state: DeliveryState | None = None
    client: str | None = None
    target: str | None = None
    since: int | None = None  # given up then or later
    until: int | None = None  # given up before then
    changed_since: int | None = None  # due, delivered or given up then or later

    def condition(self) -> sa.ColumnElement[bool]:
        """Return the condition on rows of deliveries that may have some of these."""
        row = deliveries.c
        conditions: list[sa.ColumnElement[bool]] = [sa.true()]
        if self.state is DeliveryState.DELIVERED:
            conditions.append(row.delivered > 0)
        elif self.state is DeliveryState.DISCARDED:
            conditions += [DEAD, row.state == self.state]
        elif self.state is not None:
            # Few are not delivered: they are found first, whatever the order.
            few = sa.select(row.answer_id, row.position).where(_INDEXED[self.state], row.state == self.state)
            conditions.append(sa.tuple_(row.answer_id, row.position).in_(few.correlate(None)))
        if self.client is not None:
            conditions.append(row.client == self.client)
        if self.target is not None:
            conditions.append(row.target == self.target)
        if self.since is not None:
            conditions.append(row.discarded_at >= self.since)
        if self.until is not None:
            conditions.append(row.discarded_at < self.until)
        if self.client_batches is not None:
            # The end of a batch is a segment of its own, which nothing else leads to. Not a join: PostgreSQL may begin
            # with all segments.
            named = [bytes.fromhex(one) for one in self.client_batches]
            theirs = sa.select(answers.c.ids).where(answers.c.id == row.answer_id).correlate(deliveries)
            conditions.append(theirs.scalar_subquery().in_(named))
        if self.changed_since is not None:
            conditions.append(row.due_at >= self.changed_since)
        return sa.and_(*conditions)


class _Place(NamedTuple):
    """Where a delivery is among the others: its row's key, and its position in the row."""

    key: tuple[int, ...]
    position: int


_INDEXED = {
    DeliveryState.AVAILABLE: AVAILABLE,
    DeliveryState.DELIVERING: ASIDE,
    DeliveryState.RETRYABLE: ASIDE,
}
"""By which partial index rows in each of these states are found."""

_SENDABLE = sa.exists().where(answers.c.id == deliveries.c.answer_id)


def listed(
    connection: sa.Connection,
    wanted: DeliveryFilter,
    limit: int,
    before: str | None = None,
    after: str | None = None,
) -> list[Covering]:
    """Return the newest `limit` of these, newest last; or those just before, or just after, the one of a request.

    They are in the order of their answers; those that were given up, in the order in which that happened.
    """
    if wanted.ids is not None:
        return coverage.of_requests(connection, wanted.ids)[-limit:]
    if after:
        return list(islice(_walk(connection, wanted, after, forward=True), limit))
    found = list(islice(_walk(connection, wanted, before, forward=False), limit))
    return found[::-1]


def tries(connection: sa.Connection, request_id: str) -> list[Try]:
    """Return the tries to deliver this request's answer that were recorded, in order; see DeliveryAttempt."""
    query = sa.select(*(attempts.c[name] for name in Try._fields)).where(attempts.c.request_id == request_id)
    return [Try._make(row) for row in connection.execute(query.order_by(attempts.c.id))]


def counted(connection: sa.Connection, wanted: DeliveryFilter) -> tuple[int, int]:
    """Count those of these that were given up: those that can be sent again, and those whose answer is gone."""
    number = deliveries.c.pending if wanted.ids is None else sa.literal(1)
    query = sa.select(sa.func.sum(number).filter(_SENDABLE), sa.func.sum(number)).where(
        DEAD, wanted.condition()
    )
    if wanted.ids is not None:
        query = query.join_from(deliveries, requests, coverage.OWES).where(requests.c.id.in_(wanted.ids))
    sendable, total = (int(one or 0) for one in connection.execute(query).one())
    return sendable, total - sendable


def counted_by_target(connection: sa.Connection, client: str | None = None) -> dict[str, int]:
    """Return how many were given up, of a client or of all, by URL or task name."""
    row = deliveries.c
    query = sa.select(row.target, sa.func.sum(row.pending)).where(DEAD).group_by(row.target)
    if client is not None:
        query = query.where(row.client == client)
    return {target: int(count) for target, count in connection.execute(query)}


def replay(connection: sa.Connection, wanted: DeliveryFilter, limit: int, now: int) -> tuple[int, list[str]]:
    """Make these due at once, up to `limit` rows, with a full schedule of tries again, and start their endpoints.

    Returns how many were replayed, and those of their URLs that had been stopped.
    """
    database.lock(connection, REPLAY_LOCK)
    key = sa.tuple_(deliveries.c.answer_id, deliveries.c.position)
    some = sa.select(*key.clauses).where(DEAD, _SENDABLE, wanted.condition())
    if wanted.ids is not None:
        _split_off(connection, wanted)
        theirs = sa.select(requests.c.answer_id, requests.c.answer_position)
        some = some.where(key.in_(theirs.where(requests.c.id.in_(wanted.ids))))
    some = some.order_by(deliveries.c.discarded_at).limit(limit).with_for_update(skip_locked=True)
    replayed = (
        sa.update(deliveries)
        .where(key.in_(some), deliveries.c.state.in_(REPLAY.sources))
        .values(state=REPLAY.target, attempt=0, due_at=now, discarded_at=None)
        .returning(deliveries.c.channel, deliveries.c.target, deliveries.c.pending)
    )
    found = connection.execute(replayed).all()
    count = sum(row.pending for row in found)
    transition_log.record_many(connection, f"deliveries {REPLAY.target}", count, move=REPLAY.verb)
    return count, endpoints.start(connection, {row.target for row in found if row.channel == "webhook"})


def _split_off(connection: sa.Connection, wanted: DeliveryFilter) -> None:
    """Give those of these requests that were given up together with others rows of their own."""
    shared = (
        sa.select(requests.c.answer_position, *deliveries.c)
        .join(requests, coverage.OWES)
        .where(DEAD, deliveries.c.position == REST, wanted.condition(), requests.c.id.in_(wanted.ids or ()))
        .order_by(deliveries.c.answer_id)
        .with_for_update(of=deliveries)
    )
    rows = connection.execute(shared).all()
    for answer_id in dict.fromkeys(row.answer_id for row in rows):
        some = [row for row in rows if row.answer_id == answer_id]
        coverage.split_off(connection, some[0], [row.answer_position for row in some])


def _walk(
    connection: sa.Connection, wanted: DeliveryFilter, from_: str | None, *, forward: bool
) -> Iterator[Covering]:
    """Yield these deliveries in order, forward or backward, from that of a request on, without it."""
    keys = [deliveries.c.answer_id, deliveries.c.position]
    if wanted.state is REPLAY.sources[0]:
        keys.insert(0, deliveries.c.discarded_at)
    start = _place(connection, keys, from_) if from_ else None
    key = sa.tuple_(*keys)
    page = (
        sa.select(deliveries, answers.c.ids)
        .join(answers, answers.c.id == deliveries.c.answer_id, isouter=True)
        .where(wanted.condition())
        .order_by(*(column if forward else column.desc() for column in keys))
        .limit(PAGE)
    )
    query = page if start is None else page.where(key >= start.key if forward else key <= start.key)
    while rows := connection.execute(query).all():
        for row in rows:
            own_key = tuple(getattr(row, column.name) for column in keys)
            covered = coverage.covered(row, row.ids or b"")
            for position, id_ in covered if forward else reversed(covered):
                place = _Place(own_key, position)
                one = coverage.covering(row, id_, position)
                is_beyond = start is None or (place > start if forward else place < start)
                if is_beyond and wanted.state in (None, one.state):
                    yield one
        query = page.where(key > own_key if forward else key < own_key)


def _place(connection: sa.Connection, keys: Sequence[sa.ColumnElement[Any]], request_id: str) -> _Place:
    query = sa.select(requests.c.answer_position, *keys).join(requests, coverage.COVERS)
    position, *key = connection.execute(query.where(requests.c.id == request_id)).one()
    return _Place(tuple(key), position)
