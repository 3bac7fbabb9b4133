"""SQL about deliveries as operators see them, and `carpool deliveries replay` for those that were given up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool_worker import database, transition_log
from carpool_worker.models.indexes import DEAD
from carpool_worker.models.tables import answers, attempts, deliveries, requests, segments
from carpool_worker.states import REPLAY, DeliveryState
from carpool_worker.store.deliveries import endpoints

REPLAY_LOCK = 0x7265706C
"""PostgreSQL's advisory lock on the answers of dead letters: while some are replayed, none is pruned."""


class Listed(NamedTuple):
    """A delivery; times are milliseconds since the epoch."""

    request_id: str
    client: str | None  # None: its request is no longer stored
    channel: str
    target: str
    state: DeliveryState
    attempt: int
    due_at: int  # of a retryable one: when it is tried again; of a final one: since when it is final
    last_error: str | None


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

    ids: Sequence[str] | None = None
    state: DeliveryState | None = None
    client: str | None = None
    target: str | None = None
    since: int | None = None  # given up then or later
    until: int | None = None  # given up before then
    changed_since: int | None = None  # due, delivered or given up then or later

    def condition(self) -> sa.ColumnElement[bool]:
        """Return the filter as a condition on deliveries joined with their requests."""
        columns = deliveries.c
        equal = [
            (columns.state, self.state),
            (requests.c.client, self.client),
            (columns.target, self.target),
        ]
        conditions = [column == value for column, value in equal if value is not None]
        if self.ids is not None:
            conditions.append(columns.request_id.in_(self.ids))
        if self.since is not None:
            conditions.append(columns.discarded_at >= self.since)
        if self.until is not None:
            conditions.append(columns.discarded_at < self.until)
        if self.changed_since is not None:
            conditions.append(columns.due_at >= self.changed_since)
        return sa.and_(sa.true(), *conditions)


_JOINED = deliveries.join(requests, requests.c.id == deliveries.c.request_id, isouter=True).join(
    segments, segments.c.id == requests.c.segment_id, isouter=True
)
_ANSWERED = sa.or_(
    requests.c.outcome.is_(None),
    requests.c.outcome.not_in(("succeeded", "errored")),
    sa.exists().where(answers.c.id == requests.c.answer_id),
)
_SENDABLE = sa.and_(segments.c.callback.is_not(None), _ANSWERED)


def listed(
    connection: sa.Connection,
    wanted: DeliveryFilter,
    limit: int,
    before: str | None = None,
    after: str | None = None,
) -> list[Listed]:
    """Return the newest `limit` of these, newest last; or those just before, or just after, the one of a request."""
    columns = [requests.c[name] if name == "client" else deliveries.c[name] for name in Listed._fields]
    id_ = deliveries.c.request_id
    newest = deliveries.c.discarded_at if wanted.state is REPLAY.sources[0] else id_
    query = sa.select(*columns).select_from(_JOINED).where(wanted.condition()).limit(limit)
    if after:
        at = _of(newest, after)
        following = query.where(newest >= at, sa.or_(newest > at, id_ > after)).order_by(newest, id_)
        return [Listed._make(row) for row in connection.execute(following)]
    if before:
        at = _of(newest, before)
        query = query.where(newest <= at, sa.or_(newest < at, id_ < before))
    found = connection.execute(query.order_by(newest.desc(), id_.desc())).all()
    return [Listed._make(row) for row in reversed(found)]


def _of(column: sa.ColumnElement[Any], request_id: str) -> Any:
    other = deliveries.alias()
    return sa.select(other.c[column.name]).where(other.c.request_id == request_id).scalar_subquery()


def tries(connection: sa.Connection, request_id: str) -> list[Try]:
    """Return all tries to deliver this request's answer, in order."""
    query = sa.select(*(attempts.c[name] for name in Try._fields)).where(attempts.c.request_id == request_id)
    return [Try._make(row) for row in connection.execute(query.order_by(attempts.c.id))]


def counted(connection: sa.Connection, wanted: DeliveryFilter) -> tuple[int, int]:
    """Count those of these that were given up: those that can be sent again, and those whose answer is gone."""
    query = (
        sa.select(sa.func.count().filter(_SENDABLE), sa.func.count())
        .select_from(_JOINED)
        .where(DEAD, wanted.condition())
    )
    sendable, total = connection.execute(query).one()
    return sendable, total - sendable


def counted_by_target(connection: sa.Connection) -> dict[str, int]:
    """Return how many were given up, by URL or task name."""
    query = sa.select(deliveries.c.target, sa.func.count()).where(DEAD).group_by(deliveries.c.target)
    return {row[0]: row[1] for row in connection.execute(query)}


def replay(connection: sa.Connection, wanted: DeliveryFilter, limit: int, now: int) -> tuple[int, list[str]]:
    """Make up to `limit` of these due at once, with a full schedule of tries again, and start their endpoints.

    Returns how many were replayed, and those of their URLs that had been stopped.
    """
    database.lock(connection, REPLAY_LOCK)
    some = (
        sa.select(deliveries.c.request_id)
        .select_from(_JOINED)
        .where(DEAD, _SENDABLE, wanted.condition())
        .order_by(deliveries.c.discarded_at)
        .limit(limit)
        .with_for_update(of=deliveries, skip_locked=True)
    )
    replayed = (
        sa.update(deliveries)
        .where(deliveries.c.request_id.in_(some), deliveries.c.state.in_(REPLAY.sources))
        .values(state=REPLAY.target, attempt=0, due_at=now, discarded_at=None)
        .returning(deliveries.c.channel, deliveries.c.target)
    )
    targets = connection.execute(replayed).all()
    transition_log.record_many(connection, f"deliveries {REPLAY.target}", len(targets), move=REPLAY.verb)
    urls = {target for channel, target in targets if channel == "webhook"}
    return len(targets), endpoints.start(connection, urls)
