"""Engines: how each database is opened, and what each connection is set to."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import sqlalchemy as sa
from psycopg.adapt import Loader
from psycopg.pq import Format

from carpool_worker.exceptions import DatabaseMissing
from carpool_worker.setting_values import Pooler
from carpool_worker.units import SECOND

SQLITE_BUSY_TIMEOUT = 60.0
"""Seconds that a SQLite writer waits for another; only one writes at a time."""

SQLITE_RETRY_SECONDS = 0.05
"""Seconds between two tries to turn on the write-ahead log."""

SQLITE_PAGE = 8192
"""Bytes: several requests share a page."""

POOL_SIZE = 5

POSTGRES = {"postgresql", "postgres"}
"""How URLs of PostgreSQL begin: hosts of databases hand out either."""

UNPREPARED: dict[str, int | None] = {"prepare_threshold": None}
"""psycopg's: no statement is prepared at the server under a name, which another session would not know."""

POOLED = "carpool_pooled"

KEEPALIVE = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""libpq's: one that does not answer is given up after ten seconds, and a PostgreSQL that vanished silently is noticed
within a minute. Seconds; the last is in milliseconds."""


class Timeouts(NamedTuple):
    """How long a connection waits for a lock, and how long its transaction may do nothing; seconds, 0 is forever."""

    lock: float
    idle: float

    @property
    def options(self) -> str:
        """libpq's options that set them."""
        return (
            f"-c lock_timeout={round(self.lock * SECOND)} "
            f"-c idle_in_transaction_session_timeout={round(self.idle * SECOND)}"
        )


def open_engine(
    url: str, *, pooler: Pooler = "none", timeouts: Timeouts | None = None, create: bool = False
) -> sa.Engine:
    """Return an engine for `url`; for SQLite, turn on the write-ahead log and, to `create` it, make the file.

    Behind a `pooler` that lends connections by the transaction, nothing outlives one: see is_pooled. There, and without
    `timeouts`, those of PostgreSQL's role hold. Errors hide the statements' parameters, which may be prompts: errors
    are logged.

    Raises:
        DatabaseMissing: there is no such SQLite file, and it is not to be made.
        OSError: the SQLite file, or its folder, can't be made.
        ModuleNotFoundError, sqlalchemy.exc.NoSuchModuleError: there is no such driver, or no such database.
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _open_sqlite(parsed, create)
    if parsed.drivername in POSTGRES:
        parsed = parsed.set(drivername="postgresql+psycopg")
    pooled = pooler == "transaction"
    arguments: dict[str, Any] = {name: one for name, one in KEEPALIVE.items() if name not in parsed.query}
    if timeouts and not pooled:  # a pooler refuses options
        arguments["options"] = f"{timeouts.options} {parsed.query.get('options', '')}"  # the last one counts
    engine = sa.create_engine(
        parsed,
        pool_size=POOL_SIZE,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args=arguments | (UNPREPARED if pooled else {}),
        execution_options={POOLED: pooled},
    )
    sa.event.listen(engine, "handle_error", _quote_nothing)
    sa.event.listen(engine, "connect", _load_ids_as_text)
    return engine


def is_pooled(connection: sa.Connection) -> bool:
    """Return whether a pooler lends this connection by the transaction: the next one may be of another session."""
    return bool(connection.get_execution_options().get(POOLED, False))


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


def _open_sqlite(url: sa.URL, create: bool) -> sa.Engine:
    if url.database and url.database != ":memory:" and not url.database.startswith("file:"):
        if create:
            _make_private(Path(url.database))
        elif not Path(url.database).exists():
            raise DatabaseMissing(url.database)
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


def _make_private(path: Path) -> None:
    """Make the file, and its folder, for their user alone unless they exist: prompts and answers will be in it.

    SQLite gives its write-ahead log and shared memory the file's own mode.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


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
