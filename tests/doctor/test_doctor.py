"""`carpool doctor` as a whole: it examines everything, and says so if all is well."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from tests.fixtures.doctor import SECRET, Doctor
from typer.testing import CliRunner

from carpool_worker.cli import app
from carpool_worker.coordination import heartbeat
from carpool_worker.simulator import RemoteSimulator


@contextmanager
def working() -> Iterator[None]:
    """A real worker of all queues."""
    command = [sys.executable, "-m", "carpool_worker.cli", "worker", "--concurrency", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def test_where_all_is_well_it_says_so_and_ends_with_0(
    doctor: Doctor, own_redis: redis.Redis, simulator: RemoteSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a whole installation, with a worker for all queues, and a beat that ticked
    doctor.set(
        ANTHROPIC_BASE_URL=simulator.url, ANTHROPIC_API_KEY="sk-ant-simulated", CARPOOL_WEBHOOK_SECRET=SECRET
    )
    monkeypatch.setattr("carpool_worker.doctor.celery_queues.ANSWER_SECONDS", 1.0)
    heartbeat.record(own_redis)

    # When
    with working():
        deadline = time.monotonic() + 60
        while doctor() and doctor.exit_code and time.monotonic() < deadline:
            heartbeat.record(own_redis)
        found = doctor()
        shown = CliRunner().invoke(app, ["doctor"])

    # Then
    assert [one for one in found if one["verdict"] != "ok"] == [
        {
            "check": "claude",
            "verdict": "warning",
            "what": f"this is not Anthropic but {simulator.url.removeprefix('http://')}",
            "mend": "unset ANTHROPIC_BASE_URL, unless a simulator or a proxy is meant",
        }
    ]
    checks = ["settings", "redis", "database", "claude", "clock", "celery", "webhooks"]
    assert list(dict.fromkeys(one["check"] for one in found)) == checks
    assert doctor.exit_code == shown.exit_code == 0
    assert len(shown.output.splitlines()) == len(found)
    assert shown.output.startswith("ok      settings  no file, the defaults;")
