"""Inserts and updates of many rows, and conditions on many ids, in the fastest way that each database has."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import psycopg
import sqlalchemy as sa

from carpool_worker.database import is_postgres, psycopg_connection
from carpool_worker.engines import is_pooled
from carpool_worker.models.columns import Id

SQLITE_VALUES = 4_000
"""Values per statement; SQLite allows 32,766, and larger statements are no faster."""


def insert_rows(
    connection: sa.Connection, table: str, columns: Mapping[str, str], rows: Sequence[Sequence[Any]]
) -> None:
    """Insert many rows: with COPY on PostgreSQL, with many rows per statement on SQLite.

    `columns` maps each column to its SQL type; ids are given in their 16 bytes, as "bytea" on both databases. COPY is
    binary, as its text format writes bytes in hexadecimal.

    Raises:
        sqlalchemy.exc.IntegrityError: a row exists already; the transaction must be rolled back.
    """
    if not rows:
        return
    if is_postgres(connection):
        _copy(connection, table, columns, rows)
        return
    names = ", ".join(columns)
    for values, placeholders in _sqlite_values(rows):
        connection.exec_driver_sql(f"INSERT INTO {table} ({names}) VALUES {placeholders}", values)  # noqa: S608


def _copy(
    connection: sa.Connection, table: str, columns: Mapping[str, str], rows: Sequence[Sequence[Any]]
) -> None:
    names = ", ".join(columns)
    try:
        with (
            psycopg_connection(connection) as driver,
            driver.cursor().copy(f"COPY {table} ({names}) FROM STDIN (FORMAT BINARY)") as copy,
        ):
            copy.set_types(list(columns.values()))
            for row in rows:
                copy.write_row(row)
    except (psycopg.errors.IntegrityError, psycopg.DataError) as error:
        # Its text quotes the row, which may be a prompt, and errors are logged: only its type is passed on.
        kind = sa.exc.IntegrityError if isinstance(error, psycopg.errors.IntegrityError) else sa.exc.DataError
        raise kind(f"COPY {table}", None, type(error)()) from None


def one_of(
    connection: sa.Connection, column: sa.ColumnElement[Any], ids: Iterable[str]
) -> sa.ColumnElement[bool]:
    """Return the condition that a column, of ids or of their text, is one of these, which may be thousands."""
    # A single parameter, so that neither database parses and caches a statement per number of ids. (psycopg would adapt
    # a list id by id; PostgreSQL's planner misjudges the size of a set that a function returns.)
    is_text = not isinstance(column.type, Id)
    if is_postgres(connection):
        listed = sa.func.string_to_array(",".join(ids), ",", type_=sa.ARRAY(sa.Text))
        return column == sa.any_(listed if is_text else sa.cast(listed, sa.ARRAY(Id)))
    each = sa.func.json_each(json.dumps(list(ids))).table_valued("value")
    return column.in_(sa.select(each.c.value if is_text else sa.func.id_of(each.c.value, type_=Id)))


def one_of_few(
    connection: sa.Connection, column: sa.ColumnElement[Any], few: sa.Select[Any]
) -> sa.ColumnElement[bool]:
    """Return the condition that a column is one of those that a query finds, which are few beside its table's rows."""
    # PostgreSQL would rather walk both tables in the order of their keys, as it doesn't know how few they are.
    if is_postgres(connection):
        return column == sa.any_(sa.func.array(few.scalar_subquery()))
    return column.in_(few)


def update_rows(
    connection: sa.Connection,
    table: str,
    columns: Mapping[str, str],
    rows: Sequence[Sequence[Any]],
    where: str,
    same: Mapping[str, Any],
) -> int:
    """Update many rows, each with its own values; return how many were updated.

    `columns` maps each column to its SQL type; a row is its id (16 bytes), then the values in that order. The columns
    of `same` get the same value in all rows. Only rows that meet the condition `where` are updated.
    """
    if not rows:
        return 0
    if is_postgres(connection):
        return _update_postgres(connection, table, columns, rows, where, same)
    sets = ", ".join(f"{name} = ?" for name in (*same, *columns))
    fixed = tuple(same.values())
    return connection.exec_driver_sql(
        f"UPDATE {table} SET {sets} WHERE id = ? AND {where}",  # noqa: S608
        [(*fixed, *values, id_) for id_, *values in rows],
    ).rowcount


def _update_postgres(
    connection: sa.Connection,
    table: str,
    columns: Mapping[str, str],
    rows: Sequence[Sequence[Any]],
    where: str,
    same: Mapping[str, Any],
) -> int:
    given = _copied(connection, table, columns, rows)
    sets = ", ".join(
        [*(f"{name} = %({name})s" for name in same), *(f"{name} = v.{name}" for name in columns)]
    )
    statement = f"UPDATE {table} SET {sets} FROM {given} AS v WHERE {table}.id = v.id AND {where}"  # noqa: S608
    return connection.exec_driver_sql(statement, dict(same)).rowcount


def _copied(
    connection: sa.Connection, table: str, columns: Mapping[str, str], rows: Sequence[Sequence[Any]]
) -> str:
    """Copy rows into a temporary table of this connection, and return its name. Behind a pooler it ends with the
    transaction, as the connection does.

    PostgreSQL knows nothing of its contents: without these settings it would read all of `table` for a hash join.
    """
    name = (
        f"{table}_{zlib.crc32(','.join(columns).encode()):08x}"  # names of PostgreSQL are cut at 63 letters
    )
    types = "".join(f", {column} {kind}" for column, kind in columns.items())
    at_commit = "DROP" if is_pooled(connection) else "DELETE ROWS"
    connection.exec_driver_sql(
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {name} (id uuid PRIMARY KEY{types}) ON COMMIT {at_commit}"
    )
    connection.exec_driver_sql(f"DELETE FROM {name}")  # noqa: S608 - of an earlier call in this transaction
    connection.exec_driver_sql("SET LOCAL enable_hashjoin = off")
    connection.exec_driver_sql("SET LOCAL enable_mergejoin = off")
    insert_rows(connection, name, {"id": "bytea"} | dict(columns), rows)
    return name


def _sqlite_values(rows: Sequence[Sequence[Any]]) -> Iterator[tuple[tuple[Any, ...], str]]:
    # With a statement per row, SQLite would take twice as long.
    placeholders = f"({', '.join('?' * len(rows[0]))})"
    together = SQLITE_VALUES // len(rows[0])
    for start in range(0, len(rows), together):
        some = rows[start : start + together]
        yield tuple(chain.from_iterable(some)), ", ".join([placeholders] * len(some))
