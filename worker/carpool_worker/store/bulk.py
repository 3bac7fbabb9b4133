"""Inserts and updates of many rows, in the fastest way that each database has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec
import psycopg
import sqlalchemy as sa

from carpool_worker.database import is_postgres, psycopg_connection

SQLITE_ROWS = 100
"""Rows per statement; SQLite allows 32,766 values in one."""


def insert_rows(
    connection: sa.Connection, table: str, columns: Mapping[str, str], rows: Sequence[Sequence[Any]]
) -> None:
    """Insert many rows: with COPY on PostgreSQL, with many rows per statement on SQLite.

    `columns` maps each column to its SQL type. COPY is binary, as its text format writes bytes in hexadecimal.

    Raises:
        sqlalchemy.exc.IntegrityError: a row exists already; the transaction must be rolled back.
    """
    if not rows:
        return
    names = ", ".join(columns)
    if not is_postgres(connection):
        for values, marks in _sqlite_values(rows):
            connection.exec_driver_sql(f"INSERT INTO {table} ({names}) VALUES {marks}", values)  # noqa: S608
        return
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


def update_rows(
    connection: sa.Connection,
    table: str,
    key: str,
    columns: Mapping[str, str],
    rows: Sequence[Sequence[Any]],
    where: str,
    emptied: Sequence[str] = (),
) -> int:
    """Update many rows by key, each with its own values; return how many were updated.

    `columns` maps each column to its SQL type; a row is its key, then the values in that order. `where` is a
    condition on the table that guards each row; the columns `emptied` become NULL in all of them.
    """
    if not rows:
        return 0
    values_of = {column: f"v.{column}" for column in columns} | dict.fromkeys(emptied, "NULL")
    sets = ", ".join(f"{column} = {value}" for column, value in values_of.items())
    names = ", ".join(["key", *columns])
    matches = f"{table}.{key} = v.key AND {where}"
    if not is_postgres(connection):
        # Not WITH … UPDATE: the driver counts rows only for a statement that begins with its verb.
        given = f"WITH given({names}) AS (VALUES %s) SELECT * FROM given"  # noqa: S608
        update = f"UPDATE {table} SET {sets} FROM ({given}) AS v WHERE {matches}"  # noqa: S608
        return sum(
            connection.exec_driver_sql(update % marks, values).rowcount
            for values, marks in _sqlite_values(rows)
        )
    # One JSON document: psycopg would take four times as long for arrays, as it adapts each item.
    document = msgspec.json.encode([dict(zip(("key", *columns), row, strict=True)) for row in rows]).decode()
    kinds = ", ".join(["key text", *(f"{column} {kind}" for column, kind in columns.items())])
    statement = f"UPDATE {table} SET {sets} FROM json_to_recordset(%s::json) AS v({kinds}) WHERE {matches}"  # noqa: S608
    return connection.exec_driver_sql(statement, (document,)).rowcount


def _sqlite_values(rows: Sequence[Sequence[Any]]) -> Iterator[tuple[tuple[Any, ...], str]]:
    # With a statement per row, SQLite would take twice as long.
    mark = f"({', '.join('?' * len(rows[0]))})"
    for start in range(0, len(rows), SQLITE_ROWS):
        some = rows[start : start + SQLITE_ROWS]
        yield tuple(chain.from_iterable(some)), ", ".join([mark] * len(some))
