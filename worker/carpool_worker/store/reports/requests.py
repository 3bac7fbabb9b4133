"""Requests as operators see them: a page of them, in the order in which they were batched, or one of them.

Not in the order of their ids, as one made from an idempotency key has no time in it. Requests that never were in a
batch, as their client's budget has no room for them, come before all others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa

from carpool_worker.database import is_postgres
from carpool_worker.models import DeliveryRow, Request
from carpool_worker.models.indexes import RETRYABLE
from carpool_worker.models.tables import answers, deliveries, params, requests
from carpool_worker.states import RequestState
from carpool_worker.store.reports import ids
from carpool_worker.store.requests.rows import UNBATCHED
from carpool_worker.units import HOUR

MOST_CLOCK_SKEW = HOUR
"""How far the clocks of producers and workers may differ."""


@dataclass(frozen=True)
class RequestFilter:
    """Which requests; None is any. Times are milliseconds since the epoch."""

    state: RequestState | None = None
    client: str | None = None
    model: str | None = None
    batch: str | None = None
    since: int | None = None  # enqueued then or later
    longest_open: int = 0  # milliseconds: how long a batch may be open, and thus be older than its requests

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """Return the filter as conditions on requests."""
        row = requests.c
        equal = [
            (row.state, self.state),
            (row.client, self.client),
            (row.model, self.model),
            (row.batch_id, self.batch),
        ]
        conditions = [column == value for column, value in equal if value is not None]
        if self.state is RequestState.RETRYABLE:
            conditions.append(RETRYABLE)
        if self.since is not None:
            oldest = ids.since(self.since - self.longest_open - MOST_CLOCK_SKEW)
            lately = sa.or_(row.batch_id >= oldest, row.batch_id == UNBATCHED)
            conditions += [row.enqueued_at >= self.since, lately]
        return conditions


class StoredContents(NamedTuple):
    """A request's params and its answer, byte for byte; None: not stored (yet, or any longer)."""

    params: bytes | None
    answer: bytes | None


def page(
    connection: sa.Connection,
    wanted: RequestFilter,
    limit: int,
    before: Request | None = None,
    after: Request | None = None,
) -> list[Request]:
    """Return the newest `limit` of these requests, newest last; or those just before, or just after, one of them."""
    row = requests.c
    query = sa.select(requests).where(*wanted.conditions()).limit(limit)
    if after is not None:
        later = sa.or_(row.batch_id > after.batch_id, row.id > after.id)
        following = query.where(row.batch_id >= after.batch_id, later).order_by(row.batch_id, row.id)
        return [_request(found) for found in connection.execute(following)]
    if before is not None:
        earlier = sa.or_(row.batch_id < before.batch_id, row.id < before.id)
        query = query.where(row.batch_id <= before.batch_id, earlier)
    # Without the concat, PostgreSQL would look for a batch's requests by reading all ids backwards.
    id_ = row.id.concat("") if is_postgres(connection) else row.id
    newest = connection.execute(query.order_by(row.batch_id.desc(), id_.desc())).all()
    return [_request(found) for found in reversed(newest)]


def get(connection: sa.Connection, request_id: str) -> Request:
    """Return the request; there must be one."""
    return _request(connection.execute(sa.select(requests).where(requests.c.id == request_id)).one())


def contents(connection: sa.Connection, request_id: str) -> StoredContents:
    """Return the stored params and answer of a request."""
    kept = (
        sa.select(table.c.body).where(table.c.request_id == request_id).scalar_subquery()
        for table in (params, answers)
    )
    return StoredContents(*connection.execute(sa.select(*kept)).one())


def delivery(connection: sa.Connection, request_id: str) -> DeliveryRow | None:
    """Return the delivery of a request's answer, or None."""
    row = connection.execute(sa.select(deliveries).where(deliveries.c.request_id == request_id)).one_or_none()
    return None if row is None else DeliveryRow(**row._mapping)


def _request(row: sa.Row[tuple[object, ...]]) -> Request:
    values = dict(row._mapping)
    values["request_metadata"] = values.pop("metadata")
    return Request(**values)
