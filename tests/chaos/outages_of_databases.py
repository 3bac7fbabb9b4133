"""Outages of the databases: PostgreSQL killed, stopped, cut off and refusing; SQLite locked."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import sqlalchemy as sa
from tests.chaos.outages import LONG, strike
from tests.chaos.scenario import scenario
from tests.chaos.stack import Stack


@scenario("PostgreSQL killed with -9", seconds=60, databases=("postgresql",))
def postgresql_killed(stack: Stack) -> None:
    """Kill PostgreSQL's first process, and start it again."""

    def blow() -> None:
        stack.database.kill()
        stack.database.start()

    strike(stack, "PostgreSQL: SIGKILL", blow)


@scenario("PostgreSQL stopped immediately, and away for a while", seconds=60, databases=("postgresql",))
def postgresql_stopped(stack: Stack) -> None:
    """Stop it without a checkpoint, and leave it down."""

    def blow() -> None:
        stack.database.stop()
        time.sleep(5.0)
        stack.database.start()

    strike(stack, "PostgreSQL: immediate stop, 5 s", blow, 2)


@scenario("PostgreSQL cuts all connections", seconds=80, databases=("postgresql",))
def connections_cut(stack: Stack) -> None:
    """Terminate every backend, again and again."""
    strike(stack, "PostgreSQL: all connections cut", lambda: _cut(stack), 20)


@scenario("PostgreSQL refuses", seconds=60, databases=("postgresql",))
def postgresql_refuses(stack: Stack) -> None:
    """Make it read-only, short of connections, serializable and quick to time out, a few seconds each."""
    refusals = {
        "read-only, as after a failover": "ALTER DATABASE carpool SET default_transaction_read_only = on",
        "too many connections": "ALTER DATABASE carpool CONNECTION LIMIT 1",
        "serializable": "ALTER DATABASE carpool SET default_transaction_isolation = serializable",
        "statement_timeout of 5 ms": "ALTER DATABASE carpool SET statement_timeout = 5",
        "lock_timeout of 1 ms": "ALTER DATABASE carpool SET lock_timeout = 1",
    }
    for name, refusal in refusals.items():
        _administer(stack, refusal)
        _cut(stack)
        stack.inject(f"PostgreSQL: {name}")
        time.sleep(5.0)
        _administer(stack, "ALTER DATABASE carpool RESET ALL", "ALTER DATABASE carpool CONNECTION LIMIT -1")
        _cut(stack)


def _cut(stack: Stack) -> None:
    _administer(
        stack,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = 'carpool' AND backend_type = 'client backend'",
    )


def _administer(stack: Stack, *statements: str) -> None:
    # Through another database, so that this connection is not affected itself.
    with psycopg.connect(stack.database.server.get_uri(), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@scenario("SQLite locked by another program", seconds=60, databases=("sqlite",))
def sqlite_locked(stack: Stack) -> None:
    """Hold the write lock for seconds on end."""
    path = str(sa.make_url(stack.database.url).database)

    def blow() -> None:
        with _writing(path):
            time.sleep(stack.luck.uniform(1.0, 6.0))

    strike(stack, "SQLite: locked", blow)


@contextmanager
def _writing(path: str) -> Iterator[None]:
    other = sqlite3.connect(path, timeout=LONG, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()
