"""The database: one engine per process, and transactions that begin as each database needs them to."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import psycopg
import sqlalchemy as sa
from redis.exceptions import RedisError

from carpool_worker import engines, transition_log
from carpool_worker.engines import Timeouts
from carpool_worker.settings import settings
from carpool_worker.units import Milliseconds

CONTENT_CLASSES = {"22", "23", "54"}
"""Classes of SQLSTATE that are about values: data exceptions, constraints, and limits such as an index row's size."""


VALUE_ERRORS = (psycopg.DataError, psycopg.IntegrityError, sqlite3.DataError, sqlite3.IntegrityError)


def now() -> Milliseconds:
    """Return the time in milliseconds since the epoch, as the tables keep it."""
    return Milliseconds(time.time_ns() // 1_000_000)


def open_engine(url: str, *, create: bool = False) -> sa.Engine:
    """Return an engine for `url`, with the settings' timeouts and pooler; see engines.py."""
    one = settings()
    timeouts = Timeouts(one.database_lock_timeout, one.database_idle_timeout)
    return engines.open_engine(url, pooler=one.database_pooler, timeouts=timeouts, create=create)


@cache
def engine() -> sa.Engine:
    """Return this process's engine."""
    return open_engine(settings().database_url)


@contextmanager
def write(on: sa.Engine | None = None) -> Iterator[sa.Connection]:
    """Open a transaction that commits at the end, or rolls back on an error; once committed, log its transitions."""
    with (on or engine()).begin() as connection:
        moved = transition_log.begin(connection)
        yield connection
    transition_log.publish(moved)


@contextmanager
def read(on: sa.Engine | None = None) -> Iterator[sa.Connection]:
    """Open a transaction that only reads; on SQLite it does not wait for a writer."""
    with (on or engine()).connect().execution_options(carpool_reads=True) as connection:
        yield connection


def dispose_after_fork() -> None:
    """Drop the connections inherited from the parent process, which still uses them."""
    if engine.cache_info().currsize:
        engine().dispose(close=False)
        engine.cache_clear()


def blames_contents(error: Exception) -> bool:
    """Return whether an error is about what was to be stored: without that, the same would succeed.

    All else, such as an outage, a full disk or a table that is missing, would befall anything.
    """
    original = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    if state := getattr(original, "sqlstate", None):
        return str(state)[:2] in CONTENT_CLASSES
    if isinstance(original, psycopg.ProgrammingError | sqlite3.ProgrammingError):
        return not hasattr(original, "sqlite_errorcode")  # a value that the driver can't send
    if isinstance(original, psycopg.Error | sqlite3.Error):
        return isinstance(original, VALUE_ERRORS)
    if isinstance(error, sa.exc.SQLAlchemyError):
        return type(error) is sa.exc.StatementError  # a value that its column's type refuses
    return not isinstance(error, OSError | MemoryError | RedisError)


def is_postgres(connection: sa.Connection) -> bool:
    """Return whether this is PostgreSQL (else SQLite)."""
    return connection.dialect.name == "postgresql"


def lock(connection: sa.Connection, key: int) -> None:
    """Take this advisory lock until the transaction ends; SQLite has only one writer anyway."""
    if is_postgres(connection):
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))


@contextmanager
def psycopg_connection(connection: sa.Connection) -> Iterator[Any]:
    """Lend the psycopg connection underneath, for what SQLAlchemy cannot express.

    Raises:
        sqlalchemy.exc.OperationalError: the server or the connection failed; psycopg's own error is its `orig`, without
            the lines that could quote a row.
    """
    try:
        yield connection.connection.driver_connection
    except (psycopg.OperationalError, psycopg.InternalError, psycopg.InterfaceError) as error:
        connection.invalidate(error)  # it may be broken, and SQLAlchemy has not noticed
        reason = type(error)(str(error).partition("\n")[0])
        raise sa.exc.OperationalError("past SQLAlchemy", None, reason) from None
