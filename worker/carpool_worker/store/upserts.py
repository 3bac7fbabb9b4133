"""Inserts of rows that may be there already, by their primary key, for both PostgreSQL and SQLite."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from carpool_worker.database import is_postgres

Row = Mapping[str, Any]


def insert_missing(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> int:
    """Insert the rows that break no unique index; return how many they were."""
    if not rows:
        return 0
    insert = _insert(connection, table).on_conflict_do_nothing()
    counted = {"preserve_rowcount": True}  # an INSERT's rowcount is -1 else
    return connection.execute(insert, list(rows), execution_options=counted).rowcount


def upsert(
    connection: sa.Connection,
    table: sa.Table,
    rows: Sequence[Row],
    *,
    replace: Collection[str] = (),
    add: Collection[str] = (),
    where: sa.ColumnElement[bool] | None = None,
) -> None:
    """Insert rows; in those that are there already, replace some columns by the new values, and add to others.

    A row that is there and for which `where` does not hold is left alone. Rows are locked in the order given: two
    processes that write the same ones must give them in the same order, or they deadlock.
    """
    if not rows:
        return
    insert = _insert(connection, table)
    changes: dict[str, sa.ColumnElement[Any]] = {name: insert.excluded[name] for name in replace}
    changes |= {name: table.c[name] + insert.excluded[name] for name in add}
    keys = list(table.primary_key.columns)
    connection.execute(
        insert.on_conflict_do_update(index_elements=keys, set_=changes, where=where), list(rows)
    )


def _insert(connection: sa.Connection, table: sa.Table) -> postgresql.Insert:
    # SQLite's has the same methods, but no ancestor in common that declares them.
    return (
        postgresql.insert(table) if is_postgres(connection) else cast(postgresql.Insert, sqlite.insert(table))
    )
