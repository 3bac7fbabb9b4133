"""Finds ids by their first characters, as operators type them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import sqlalchemy as sa

from carpool_worker.models.tables import batches, requests, segments
from carpool_worker.store.bulk import one_of
from carpool_worker.store.deliveries import coverage

HEXADECIMAL = re.compile("[0-9a-f]{1,32}")

DIGITS = 32
"""Of an id."""

TIME_DIGITS = 12
"""Of its milliseconds since the epoch, which come first."""

LAST = "z"
"""No character of Anthropic's ids comes after it."""


def begins(column: sa.ColumnElement[str], prefix: str) -> sa.ColumnElement[bool]:
    """Return the condition that an id begins with `prefix`, which no id does if that is not hexadecimal."""
    if not HEXADECIMAL.fullmatch(prefix):
        return sa.false()
    return column.between(prefix.ljust(DIGITS, "0"), prefix.ljust(DIGITS, "f"))  # a range of the index


def requests_like(connection: sa.Connection, prefix: str, limit: int) -> list[str]:
    """Return up to `limit` ids of requests that begin with `prefix`."""
    like = sa.select(requests.c.id).where(begins(requests.c.id, prefix))
    return list(connection.scalars(like.order_by(requests.c.id).limit(limit)))


def batches_like(connection: sa.Connection, prefix: str, limit: int) -> list[str]:
    """Return up to `limit` ids of batches whose id, here or at Anthropic, begins with `prefix`."""
    row = batches.c
    # The range is what an index finds, in any collation: LIKE alone is not.
    near = row.claude_id.between(prefix, prefix + LAST * DIGITS)
    conditions = [sa.and_(near, row.claude_id.startswith(prefix, autoescape=True))]
    if HEXADECIMAL.fullmatch(prefix):
        conditions.append(begins(row.id, prefix))
    # Two queries, as each has an index; an OR would read the whole table.
    queries = (sa.select(row.id).where(one).order_by(row.id).limit(limit) for one in conditions)
    found = [id_ for query in queries for id_ in connection.scalars(query)]
    return sorted(set(found))[:limit]


def deliveries_like(connection: sa.Connection, prefix: str, limit: int) -> list[str]:
    """Return up to `limit` ids of requests with a delivery that begin with `prefix`."""
    like = sa.select(requests.c.id).where(begins(requests.c.id, prefix), coverage.is_called_back())
    return list(connection.scalars(like.order_by(requests.c.id).limit(limit)))


def newest_batches(connection: sa.Connection, prefix: str, limit: int) -> list[str]:
    """Return the ids of the newest `limit` batches whose id begins with `prefix`."""
    newest = sa.select(batches.c.id).order_by(batches.c.id.desc()).limit(limit)
    return list(connection.scalars(newest.where(begins(batches.c.id, prefix)) if prefix else newest))


def clients(connection: sa.Connection, limit: int) -> list[str]:
    """Return up to `limit` clients that have requests, in alphabetical order."""
    # The index begins with the client: from each, one step leads to the next, however many segments each has.
    each = sa.select(sa.func.min(segments.c.client).label("client")).cte("each_client", recursive=True)
    following = sa.select(sa.func.min(segments.c.client)).where(segments.c.client > each.c.client)
    each = each.union_all(sa.select(following.scalar_subquery()).where(each.c.client.is_not(None)))
    found = sa.select(each.c.client).where(each.c.client.is_not(None)).limit(limit)
    return sorted(connection.scalars(found))


def owners(connection: sa.Connection, named: Sequence[str]) -> dict[str, str]:
    """Return the clients of those of these requests that there are, by id."""
    found = sa.select(requests.c.id, requests.c.client).where(one_of(connection, requests.c.id, named))
    return {one.id: one.client for one in connection.execute(found)}


def since(milliseconds: int) -> str:
    """Return the lowest id that can be made at that time (UUIDv7: RFC 9562, section 5.7)."""
    return f"{max(0, milliseconds):012x}".ljust(DIGITS, "0")


def made_at(id_: str) -> int:
    """Return when an id was made, in milliseconds since the epoch."""
    return int(id_[:TIME_DIGITS], 16)


def earliest_like(id_: str) -> str:
    """Return the lowest id of the same millisecond."""
    return id_[:TIME_DIGITS].ljust(DIGITS, "0")


def latest_like(id_: str) -> str:
    """Return the highest id of the same millisecond."""
    return id_[:TIME_DIGITS].ljust(DIGITS, "f")
