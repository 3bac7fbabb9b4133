"""SQL about webhook URLs that fail or are stopped, and queues of tasks that fail.

One that works has no row, so that a success writes nothing. Queues are named as receivers are; they are never stopped.

Rows are locked in order of their URLs, so that two couriers with the same receivers never deadlock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa

from carpool_worker.formatting import clock
from carpool_worker.models.tables import endpoints
from carpool_worker.store.deliveries.receivers import QUEUE
from carpool_worker.store.upserts import insert_missing, upsert
from carpool_worker.units import Milliseconds

ANSWERED_GONE = "answered 410"

FAILING = Milliseconds(300_000)
"""After which one that has taken nothing is on the alarms: the second try is over, and a third begins."""


class Trouble(NamedTuple):
    """A failing URL: since when (milliseconds since the epoch), and when and why it was stopped, if it was."""

    url: str
    failing_since: int | None
    stopped_at: int | None
    reason: str | None


@dataclass(frozen=True)
class Health:
    """What tries revealed about URLs: which took a delivery, which failed, and which want no more deliveries."""

    well: frozenset[str]
    failing: frozenset[str]
    gone: frozenset[str]


def record_health(connection: sa.Connection, health: Health, stop_after: int, now: int) -> None:
    """Record the health of URLs; stop those that are gone, or have failed for `stop_after` milliseconds."""
    _forget(connection, health.well)
    _record_failing(connection, health.failing - health.well, now)
    for url in sorted(health.gone):
        stop(connection, url, ANSWERED_GONE, now)
    urls = {one for one in health.failing - health.well if not one.startswith(QUEUE)}
    for url, failing_since in _overdue(connection, urls, now - stop_after):
        stop(connection, url, f"took no delivery since {clock(failing_since, now)}", now)


def start(connection: sa.Connection, urls: Iterable[str]) -> list[str]:
    """Allow deliveries to these URLs again; return those that were stopped."""
    started = []
    for url in sorted(set(urls)):
        gone = sa.delete(endpoints).where(endpoints.c.url == url).returning(endpoints.c.stopped_at)
        if connection.scalars(gone).one_or_none() is not None:
            started.append(url)
    return started


def stop(connection: sa.Connection, url: str, reason: str, now: int) -> None:
    """Stop deliveries to a URL; one that is stopped already keeps its time and reason."""
    stopped = {"url": url, "failing_since": now, "stopped_at": now, "reason": reason}
    runs = endpoints.c.stopped_at.is_(None)
    upsert(connection, endpoints, [stopped], replace=("stopped_at", "reason"), where=runs)


def troubles(connection: sa.Connection, urls: Collection[str] | None = None) -> list[Trouble]:
    """Return those of `urls` (None: all) that fail or are stopped, the longest failing first."""
    query = sa.select(*(endpoints.c[name] for name in Trouble._fields))
    if urls is not None:
        query = query.where(endpoints.c.url.in_(urls))
    oldest = sa.func.coalesce(endpoints.c.failing_since, endpoints.c.stopped_at)
    return [Trouble._make(row) for row in connection.execute(query.order_by(oldest, endpoints.c.url))]


def count_failing(connection: sa.Connection, now: int, since: int) -> int:
    """Count those that have taken nothing for a while, and that began to fail since then; stopped ones don't count."""
    row = endpoints.c
    failing = sa.select(sa.func.count()).where(row.stopped_at.is_(None), row.failing_since >= since)
    return connection.scalar(failing.where(row.failing_since <= now - FAILING)) or 0


def _forget(connection: sa.Connection, urls: Collection[str]) -> None:
    failing = sa.select(endpoints.c.url).where(endpoints.c.url.in_(urls), endpoints.c.stopped_at.is_(None))
    for url in sorted(connection.scalars(failing) if urls else []):
        fails = sa.delete(endpoints).where(endpoints.c.url == url, endpoints.c.stopped_at.is_(None))
        connection.execute(fails)


def _record_failing(connection: sa.Connection, urls: Collection[str], now: int) -> None:
    insert_missing(connection, endpoints, [{"url": url, "failing_since": now} for url in sorted(urls)])


def _overdue(connection: sa.Connection, urls: Collection[str], before: int) -> list[tuple[str, int]]:
    if not urls:
        return []
    late = sa.and_(endpoints.c.stopped_at.is_(None), endpoints.c.failing_since <= before)
    query = sa.select(endpoints.c.url, endpoints.c.failing_since).where(endpoints.c.url.in_(urls), late)
    return [(url, since) for url, since in connection.execute(query.order_by(endpoints.c.url))]
