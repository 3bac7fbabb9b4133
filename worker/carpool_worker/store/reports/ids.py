"""Finds ids by their first characters, as operators type them."""

from __future__ import annotations

import re

import sqlalchemy as sa

from carpool_worker.models.tables import batches, requests
from carpool_worker.store.deliveries import coverage

HEXADECIMAL = re.compile("[0-9a-f]{1,32}")

DIGITS = 32
"""Of an id."""


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
    there = batches.c.claude_id.startswith(prefix, autoescape=True)
    like = sa.select(batches.c.id).where(sa.or_(begins(batches.c.id, prefix), there))
    return list(connection.scalars(like.order_by(batches.c.id).limit(limit)))


def deliveries_like(connection: sa.Connection, prefix: str, limit: int) -> list[str]:
    """Return up to `limit` ids of requests with a delivery that begin with `prefix`."""
    like = sa.select(requests.c.id).where(begins(requests.c.id, prefix), coverage.is_called_back())
    return list(connection.scalars(like.order_by(requests.c.id).limit(limit)))


def newest_batches(connection: sa.Connection, prefix: str, limit: int) -> list[str]:
    """Return the ids of the newest `limit` batches whose id begins with `prefix`."""
    newest = sa.select(batches.c.id).order_by(batches.c.id.desc()).limit(limit)
    return list(connection.scalars(newest.where(begins(batches.c.id, prefix)) if prefix else newest))


def since(milliseconds: int) -> str:
    """Return the lowest id that can be made at that time (UUIDv7: RFC 9562, section 5.7)."""
    return f"{max(0, milliseconds):012x}".ljust(DIGITS, "0")
