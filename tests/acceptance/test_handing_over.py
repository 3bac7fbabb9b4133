"""Each stage begins when the one before is done: a whole way of requests, with no tick of beat to help."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
import sqlalchemy as sa
from tests.acceptance.conftest import until
from tests.fixtures.agents import request

from carpool import Producer, Task
from carpool_worker import migrations
from carpool_worker.coordination.keys import HEARTBEAT, LOCK, QUEUES, UNACKED
from carpool_worker.database import open_engine, read
from carpool_worker.models.tables import batches, deliveries, durations
from carpool_worker.simulator import RemoteSimulator
from carpool_worker.states import DeliveryState

BEAT = """
from carpool_worker.app import app
for entry in app.conf.beat_schedule.values():
    entry["schedule"] = 3_600.0
app.Beat(scheduler="carpool_worker.processes.beat:BeatScheduler", loglevel="WARNING", quiet=True).run()
"""
"""`carpool beat`, whose ticks come once an hour; it sends each when it starts."""

WORKER = "from carpool_worker.cli import main; main()"

SETTINGS = {"CARPOOL_FLUSH_INTERVAL": "1", "CARPOOL_POLL_INTERVAL": "8"}

pytestmark = pytest.mark.timeout(240)


@contextmanager
def program(*command: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", *command], env=os.environ | environment)
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def stack(redis_url: str, simulator: RemoteSimulator, tmp_path: Path) -> Iterator[sa.Engine]:
    """A worker of two processes and a beat without ticks, both past what they do when they start."""
    url = f"sqlite:///{tmp_path}/carpool.db"
    migrations.upgrade(url)
    environment = SETTINGS | {"CARPOOL_REDIS_URL": redis_url, "CARPOOL_DATABASE_URL": url}
    with (
        redis.Redis.from_url(redis_url) as server,
        program(BEAT, **environment),
        program(WORKER, "worker", "--concurrency", "2", **environment),
    ):
        until(lambda: _have_begun(server), within=90)
        engine = open_engine(url)
        yield engine
        engine.dispose()


def _have_begun(server: redis.Redis) -> bool:
    """Whether the first ticks have been sent, taken, and worked off."""
    sent = server.exists(HEARTBEAT)  # beat's first sign of life comes after its first ticks
    return bool(sent) and not any(map(server.exists, [*QUEUES, UNACKED])) and not server.keys(f"{LOCK}*")


def test_a_request_goes_the_whole_way_without_a_tick(stack: sa.Engine, redis_url: str) -> None:
    with Producer(redis_url, client="tests") as producer:
        # When a service enqueues once everything is quiet, and again when the first has its answer
        for round_ in range(2):
            done = producer.enqueue(request(f"{round_}"), callback=Task("tests.on_answer", queue="tests"))

            # Then its batch is sealed, posted, polled and collected, and the answer pushed and delivered
            assert producer.wait(done, timeout=60).outcome == "succeeded"
            until(lambda: _delivered(stack) == round_ + 1)  # noqa: B023 - it is called at once

    # And how long the batches took is known
    with read(stack) as connection:
        posted, learned = (
            connection.scalar(sa.select(sa.func.count()).select_from(batches)),
            connection.scalar(sa.select(sa.func.sum(durations.c.weight))),
        )
    assert posted == 2
    assert learned == pytest.approx(2, abs=0.1)


def _delivered(engine: sa.Engine) -> int:
    with read(engine) as connection:
        done = sa.select(sa.func.count()).where(deliveries.c.state == DeliveryState.DELIVERED)
        return int(connection.scalar(done) or 0)
