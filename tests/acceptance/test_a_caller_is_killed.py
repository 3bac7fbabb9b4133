"""kill -9 of one of two processes that make calls in real time: none is made twice, each request ends, once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fixtures.agents import Carpool
from tests.fixtures.calls import Calling, billed, calling, pooled
from tests.fixtures.waiting import until

from carpool import Producer
from carpool_worker.simulator import RemoteSimulator, SimulatorOptions, running

__all__ = ["calling"]

CALLS = 30
CALLER = "from carpool_worker.tasks.calls import call; call.apply(throw=True)"


@pytest.fixture
def simulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteSimulator]:
    """A simulator whose answers take a while, so that calls are under way when their caller is killed."""
    with running(SimulatorOptions(data=tmp_path / "simulator", message_latency=(0.5, 1.5))) as remote:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", remote.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-simulated")
        yield remote


def start_caller(database_url: str, redis_url: str) -> subprocess.Popen[bytes]:
    given = {
        "CARPOOL_DATABASE_URL": database_url,
        "CARPOOL_REDIS_URL": redis_url,
        "CARPOOL_REAL_TIME_BUDGETS": json.dumps({"default": {"day": 100}}),
        "CARPOOL_REAL_TIME_CONCURRENCY": "6",
        "CARPOOL_REAL_TIME_REQUESTS_A_MINUTE": "6000",
    }
    return subprocess.Popen([sys.executable, "-c", CALLER], env=os.environ | given)


def test_a_caller_that_is_killed_loses_no_request_and_calls_none_twice(
    unhurried: Carpool,
    calling: Calling,
    producer: Producer,
    simulator: RemoteSimulator,
    database_url: str,
    redis_url: str,
) -> None:
    # Given
    ids = pooled(unhurried, producer, *(f"Question {number}" for number in range(CALLS)))
    assert len(calling.take_out(*ids).queued) == CALLS
    # When one of them is killed while its calls are under way, and another one goes on
    first = start_caller(database_url, redis_url)
    until(lambda: calling.states().count(("calling",)) >= 3, 60, progress=calling.states)
    until(lambda: simulator.ledger()["billed"] >= 3, 60, progress=simulator.ledger)
    first.send_signal(signal.SIGKILL)
    first.wait()
    left = calling.states().count(("calling",))
    unhurried.change("UPDATE real_time_calls SET lease_until = 1 WHERE state = 'calling'")
    unhurried.server.flushdb()  # its slot and its lock expire by themselves, later
    second = start_caller(database_url, redis_url)
    assert second.wait(120) == 0
    for _ in range(2):
        calling.rescue()
    # Then
    assert unhurried.ended(CALLS)
    states = calling.states()
    assert 0 < left == states.count(("lost",))
    assert states.count(("answered",)) == CALLS - left
    ledger = simulator.ledger()
    assert ledger["ran_twice_count"] == 0
    assert CALLS - left <= ledger["billed"] <= CALLS
    assert billed(unhurried)["real_time"][0] == CALLS - left
    assert unhurried.rows("SELECT sum(pending) FROM deliveries") == [(CALLS,)]
