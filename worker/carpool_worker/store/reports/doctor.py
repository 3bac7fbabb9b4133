"""What the doctor asks a database: its settings, its time, and whether anything needs a webhook's secret."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from carpool_worker.models.indexes import ASIDE, AVAILABLE, UNFINISHED
from carpool_worker.models.tables import batches, deliveries, requests, segments
from carpool_worker.store.reports import ids

POSTGRES_SETTINGS = (
    "server_version_num",
    "server_version",
    "max_connections",
    "superuser_reserved_connections",
    "synchronous_commit",
    "fsync",
    "transaction_isolation",
    "transaction_read_only",
)


def postgres_settings(connection: sa.Connection) -> dict[str, str]:
    """Return this session's settings by name, and under `connections` the number of open connections."""
    columns = [sa.func.current_setting(name).label(name) for name in POSTGRES_SETTINGS]
    opened = sa.select(sa.func.count()).select_from(sa.text("pg_stat_activity")).scalar_subquery()
    row = connection.execute(sa.select(*columns, opened.label("connections"))).one()
    return {name: str(value) for name, value in row._mapping.items()}


def sqlite_pragma(connection: sa.Connection, name: str) -> Any:
    """Return the value of a PRAGMA of this connection."""
    return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


def seconds_since_epoch(connection: sa.Connection) -> float:
    """Return the time by PostgreSQL's clock."""
    return float(connection.scalar(sa.text("SELECT extract(epoch FROM clock_timestamp())")) or 0.0)


def newest_batch(connection: sa.Connection, account: str | None, since: int) -> tuple[str, str] | None:
    """Return Anthropic's id and the headers of an account's newest batch that it has taken since then, if any."""
    row = batches.c
    taken = sa.select(row.claude_id, row.headers).where(
        row.id >= ids.since(since), row.account.is_not_distinct_from(account), row.claude_id.is_not(None)
    )
    found = connection.execute(taken.order_by(row.id.desc()).limit(1)).one_or_none()
    return None if found is None else (found.claude_id, found.headers)


def waits_for_a_secret(connection: sa.Connection) -> bool:
    """Return whether an answer is on its way to a webhook, or a request that has not ended names one."""
    is_webhook = deliveries.c.channel == "webhook"
    due = [sa.select(sa.literal(1)).where(is_webhook, condition) for condition in (AVAILABLE, ASIDE)]
    # Not joins: SQLite could begin with all requests, or all segments.
    unfinished = sa.select(batches.c.id).where(UNFINISHED)
    webhook = sa.exists().where(
        segments.c.id == requests.c.segment_id, segments.c.callback.startswith('{"kind":"webhook"')
    )
    asked = sa.select(sa.literal(1)).where(
        requests.c.batch_id.in_(unfinished), requests.c.finished_at.is_(None), webhook
    )
    return any(connection.scalar(query.limit(1)) for query in (*due, asked))
