"""A worker of the first schema goes on beside today's, on one database and one Valkey, while requests keep coming."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.acceptance.conftest import until
from tests.fixtures.agents import request

from carpool import Producer, Task
from carpool_worker import migrations
from carpool_worker.database import open_engine, read
from carpool_worker.models.tables import batches, deliveries, requests
from carpool_worker.simulator import RemoteSimulator
from carpool_worker.states import RequestState

FIRST = "74005f2"
"""The commit of the first schema, as docs/architecture.md names it."""

ROOT = Path(__file__).parents[2]
PROGRAM = "from carpool_worker.cli import main; main()"
SETTINGS = {"CARPOOL_FLUSH_INTERVAL": "0.2", "CARPOOL_POLL_INTERVAL": "0.5"}
EACH = 5
"""Requests that are enqueued at a time."""

pytestmark = pytest.mark.timeout(400)


def first_version(folder: Path) -> Path:
    """The sources of the first schema's commit, from the history of this clone."""
    found = subprocess.run(
        ["git", "archive", FIRST, "producer", "worker"], cwd=ROOT, capture_output=True, check=False
    )
    if found.returncode:
        why = found.stderr.decode().strip()
        pytest.fail(f"this needs the history back to {FIRST} (git fetch --unshallow): {why}")
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


@contextmanager
def program(*command: str, environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *command], env=os.environ | environment)
    try:
        yield
        assert process.poll() is None, f"{command} ended by itself"
        process.send_signal(signal.SIGTERM)
        process.wait(90)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_nothing_is_lost_or_run_twice_while_old_and_new_work_together(
    database_url: str, redis_url: str, simulator: RemoteSimulator, tmp_path: Path
) -> None:
    # Given the first version at work on its tables
    new = SETTINGS | {"CARPOOL_REDIS_URL": redis_url, "CARPOOL_DATABASE_URL": database_url}
    folder = first_version(tmp_path / "first")
    old = new | {"PYTHONPATH": f"{folder / 'producer'}:{folder / 'worker'}"}
    subprocess.run([sys.executable, "-c", PROGRAM, "migrate"], env=os.environ | old, check=True)
    engine = open_engine(database_url)
    accepted: list[str] = []
    with Producer(redis_url, client="tests") as producer:

        def enqueue() -> None:
            some = [request(f"{len(accepted) + number}") for number in range(EACH)]
            accepted.extend(producer.enqueue_many(some, callback=Task("tests.on_answer", queue="tests")))

        def posted_by(which: sa.ColumnElement[bool]) -> bool:
            if not _count(engine, batches, batches.c.claude_id.is_(None)):  # they follow one another
                enqueue()
            return _count(engine, batches, which, batches.c.claude_id.is_not(None)) > 0

        with program("worker", "--concurrency", "2", environment=old), program("beat", environment=old):
            until(lambda: posted_by(sa.true()), 90)

            # When the tables are upgraded, and today's version works beside it
            migrations.upgrade(database_url)
            before = _count(engine, batches)
            with program("worker", "--concurrency", "2", environment=new), program("beat", environment=new):
                later = batches.c.id > _newest(engine)
                until(lambda: posted_by(sa.and_(later, batches.c.poster.is_not(None))), 120)
                until(lambda: posted_by(sa.and_(later, batches.c.poster.is_(None))), 120)

        # And then alone
        with program("worker", "--concurrency", "2", environment=new), program("beat", environment=new):
            enqueue()
            until(lambda: _count(engine, requests, requests.c.finished_at.is_not(None)) == len(accepted), 120)
            until(lambda: not _owed(engine), 60)

    # Then each has its answer, and was run once
    assert _count(engine, batches) > before
    assert _count(engine, requests, requests.c.state == RequestState.COMPLETED) == len(accepted)
    engine.dispose()
    ledger = simulator.ledger()
    assert ledger["ran_twice"] == []
    assert ledger["billed"] == len(set(accepted)) == len(accepted)


def _count(engine: sa.Engine, table: sa.Table, *conditions: sa.ColumnElement[bool]) -> int:
    with read(engine) as connection:
        counted = sa.select(sa.func.count()).select_from(table).where(*conditions)
        return int(connection.scalar(counted) or 0)


def _newest(engine: sa.Engine) -> str:
    with read(engine) as connection:
        newest: str = connection.scalars(sa.select(batches.c.id).order_by(batches.c.id.desc()).limit(1)).one()
        return newest


def _owed(engine: sa.Engine) -> int:
    return _count(engine, deliveries, deliveries.c.delivered_at.is_(None))
