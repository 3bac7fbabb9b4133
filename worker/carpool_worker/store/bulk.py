"""Inserts and updates of many rows, in the fastest way that each database has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec
import psycopg
import sqlalchemy as sa

from carpool_worker.database import is_postgres, psycopg_connection

SQLITE_ROWS = 100
"""Rows per statement, which SQLite allows 32,766 values."""


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


def update_rows(
    connection: sa.Connection,
    table: str,
    columns: Mapping[str, str],
    rows: Sequence[Sequence[Any]],
    where: str,
    emptied: Sequence[str] = (),
) -> int:
    """Update many rows, each with its own values; return how many were updated.

    `columns` maps each column to its SQL type; a row is its id, then the values in that order. Only rows that meet the
    condition `where` are updated; their columns `emptied` become NULL.
    """
    if not rows:
        return 0
    sets = ", ".join([*(f"{name} = v.{name}" for name in columns), *(f"{name} = NULL" for name in emptied)])
    begin, end = f"UPDATE {table} SET {sets} FROM", f"WHERE {table}.id = v.id AND {where}"  # noqa: S608
    as_tables = _as_json_table if is_postgres(connection) else _as_values_tables
    return sum(
        connection.exec_driver_sql(f"{begin} {given} {end}", values).rowcount
        for given, values in as_tables(columns, rows)
    )


def _as_json_table(
    columns: Mapping[str, str], rows: Sequence[Sequence[Any]]
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    # One JSON document: psycopg would take four times as long for arrays, as it adapts each item.
    document = msgspec.json.encode([dict(zip(("id", *columns), row, strict=True)) for row in rows])
    kinds = ", ".join(["id text", *(f"{name} {kind}" for name, kind in columns.items())])
    yield f"json_to_recordset(%s::json) AS v({kinds})", (document.decode(),)


def _as_values_tables(
    columns: Iterable[str], rows: Sequence[Sequence[Any]]
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    # Not WITH … UPDATE: the driver counts rows only for a statement that begins with its verb.
    names = ", ".join(["id", *columns])
    for values, placeholders in _sqlite_values(rows):
        yield f"(WITH given({names}) AS (VALUES {placeholders}) SELECT * FROM given) AS v", values  # noqa: S608


def _sqlite_values(rows: Sequence[Sequence[Any]]) -> Iterator[tuple[tuple[Any, ...], str]]:
    # With a statement per row, SQLite would take twice as long.
    placeholders = f"({', '.join('?' * len(rows[0]))})"
    for start in range(0, len(rows), SQLITE_ROWS):
        some = rows[start : start + SQLITE_ROWS]
        yield tuple(chain.from_iterable(some)), ", ".join([placeholders] * len(some))
