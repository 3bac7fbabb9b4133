"""kill -9 in the middle of a create leaves nothing of it, and after its commit, all."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.fixtures.client_batches import assert_counts_are_those_of_the_rows
from tests.fixtures.queries import rows

ROOT = Path(__file__).parents[3]

CREATE = """
import os, signal, sys
from types import SimpleNamespace
from tests.fixtures.agents import AT_ONCE
from tests.fixtures.client_batches import make
from carpool_worker.database import open_engine
from carpool_worker.pipeline.batching import spooled_creates
from carpool_worker.store.requests import intake

url, point = sys.argv[1:]
spooled_creates.CHUNK_REQUESTS = 100

def die(*arguments, **keywords):
    os.kill(os.getpid(), signal.SIGKILL)

def later(act, calls=[]):
    def second(*arguments, **keywords):
        calls.append(None)
        return die() if len(calls) == 2 else act(*arguments, **keywords)
    return second

if point == "between two chunks":
    intake.insert = later(intake.insert)
carpool = SimpleNamespace(engine=open_engine(url), limits=AT_ONCE, budgets={}, accounts={})
make(carpool, [f"number-{number}" for number in range(3000)])
die()
"""


@pytest.mark.parametrize("point", ["between two chunks", "after the commit"])
def test_a_create_that_is_killed_is_stored_whole_or_not_at_all(
    engine: sa.Engine, database_url: str, point: str
) -> None:
    done = subprocess.run([sys.executable, "-c", CREATE, database_url, point], cwd=ROOT, check=False)

    assert done.returncode == -signal.SIGKILL
    stored = 3_000 if point == "after the commit" else 0
    assert rows(engine, "SELECT count(*) AS n FROM requests")[0].n == stored
    assert rows(engine, "SELECT count(*) AS n FROM client_batches")[0].n == (1 if stored else 0)
    for table in ("segments", "params", "batches"):
        assert bool(rows(engine, f"SELECT count(*) AS n FROM {table}")[0].n) == bool(stored)
    assert_counts_are_those_of_the_rows(engine)
