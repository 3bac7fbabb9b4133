"""The database: one engine per process, and transactions that begin as each database needs them to."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.adapt import Loader
from psycopg.pq import Format
from redis.exceptions import RedisError

from carpool_worker import transition_log
from carpool_worker.settings import settings
from carpool_worker.units import Milliseconds

SQLITE_BUSY_TIMEOUT = 60.0
"""Seconds that a SQLite writer waits for another; only one writes at a time."""

SQLITE_RETRY_SECONDS = 0.05
"""Seconds between two tries to turn on the write-ahead log."""

SQLITE_PAGE = 8192
"""Bytes: several requests share a page."""

POOL_SIZE = 5

KEEPALIVE = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""libpq's: a PostgreSQL that vanished silently is noticed within a minute. Seconds; the last is in milliseconds."""


CONTENT_CLASSES = {"22", "23", "54"}
"""Classes of SQLSTATE that are about values: data exceptions, constraints, and limits such as an index row's size."""


VALUE_ERRORS = (psycopg.DataError, psycopg.IntegrityError, sqlite3.DataError, sqlite3.IntegrityError)


def now() -> Milliseconds:
    """Return the time in milliseconds since the epoch, as the tables keep it."""
    return Milliseconds(time.time_ns() // 1_000_000)


def open_engine(url: str) -> sa.Engine:
    """Return an engine for `url`; for SQLite, create the file's folder and turn on the write-ahead log.

    Its errors hide the statements' parameters, which may be prompts: errors are logged.
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _open_sqlite(parsed)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    alive = {name: value for name, value in KEEPALIVE.items() if name not in parsed.query}
    engine = sa.create_engine(
        parsed, pool_size=POOL_SIZE, pool_pre_ping=True, hide_parameters=True, connect_args=alive
    )
    sa.event.listen(engine, "handle_error", _quote_nothing)
    sa.event.listen(engine, "connect", _load_ids_as_text)
    return engine


class _IdLoader(Loader):
    """Loads a uuid as 32 hex digits, which is what an id is everywhere else."""

    def load(self, data: Any) -> str:
        """Return the digits."""
        return bytes(data).replace(b"-", b"").decode()


class _BinaryIdLoader(Loader):
    """The same from the binary format."""

    format = Format.BINARY

    def load(self, data: Any) -> str:
        """Return the digits."""
        return bytes(data).hex()


def _load_ids_as_text(connection: psycopg.Connection[Any], record: object) -> None:
    for loader in (_IdLoader, _BinaryIdLoader):
        connection.adapters.register_loader("uuid", loader)


def _quote_nothing(context: sa.engine.ExceptionContext) -> None:
    # PostgreSQL's message quotes the row or value that it rejects.
    error = context.original_exception
    if isinstance(error, psycopg.IntegrityError | psycopg.DataError):
        text = f"{type(error).__name__} {error.diag.constraint_name or error.diag.column_name or ''}".rstrip()
        error.args = (text,)
        if context.sqlalchemy_exception:
            context.sqlalchemy_exception.args = (f"({type(error).__module__}) {text}",)


def _open_sqlite(url: sa.URL) -> sa.Engine:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, connect_args={"timeout": SQLITE_BUSY_TIMEOUT}, hide_parameters=True)

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # the driver begins no transaction; _begin does
        connection.create_function(
            "id_of", 1, bytes.fromhex, deterministic=True
        )  # SQLite has unhex since 3.41
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA page_size = {SQLITE_PAGE}")  # takes effect when the file is created
        _turn_on_wal(cursor)
        cursor.execute("PRAGMA foreign_keys = ON")  # keys that refer to other tables bind, as on PostgreSQL
        cursor.execute("PRAGMA synchronous = FULL")  # a committed transaction survives a power cut
        cursor.execute("PRAGMA cache_size = -32000")
        cursor.execute("PRAGMA wal_autocheckpoint = 4000")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # IMMEDIATE: a transaction that reads before it writes could fail halfway with SQLITE_BUSY.
        reads = connection.get_execution_options().get("carpool_reads", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _turn_on_wal(cursor: sqlite3.Cursor) -> None:
    """Turn on the write-ahead log; on a new file, wait for a process that writes or does the same at this moment.

    SQLite's own timeout does not cover that: it gives up at once where two who wait could wait for each other.
    """
    give_up_at = time.monotonic() + SQLITE_BUSY_TIMEOUT
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY  # the other bits tell why
            if not busy or time.monotonic() >= give_up_at:
                raise
            time.sleep(SQLITE_RETRY_SECONDS)
        else:
            return


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
