"""`carpool status`: what it counts, what it warns of, and that it fits a terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
from tests.conftest import free_port
from tests.fixtures.agents import MODEL, Carpool, request
from tests.fixtures.command_line import fits_80_columns, run, succeeded
from tests.fixtures.queries import batch_ids

from carpool import Producer, Webhook
from carpool_worker import settings
from carpool_worker.coordination import heartbeat
from carpool_worker.policies.limits import Limits
from carpool_worker.simulator import Fault, RemoteSimulator

pytestmark = pytest.mark.usefixtures("command_line")

SONNET = "claude-sonnet-4-5"
CALLBACK = Webhook("https://billing.example.com/claude")


def status() -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(succeeded("status", "--json"))
    return facts


def test_it_counts_what_is_where(carpool: Carpool, producer: Producer) -> None:
    # Given answers of a first batch, a second one at Anthropic, a third one open, and requests in the inbox
    producer.enqueue_many([request("a"), request("b")], callback=CALLBACK)
    carpool.until(lambda: carpool.ended(2))
    producer.enqueue_many([request("c")] * 3)
    carpool.aggregate()
    carpool.submit()
    carpool.limits = Limits(count=100, body_bytes=250_000_000, seconds=3_600.0)
    producer.enqueue(request("d", SONNET))
    carpool.aggregate()
    producer.enqueue_many([request("e")] * 5)
    heartbeat.record(carpool.server)

    # When
    seen = status()

    # Then
    assert seen["inbox"]["requests"] == 5
    assert 0 <= seen["inbox"]["oldest_age"] < 60
    assert (seen["queue"]["requests"], seen["queue"]["limit"]) == (3, 200_000)
    held = {state: (one["batches"], one["requests"]) for state, one in seen["batches"].items()}
    assert held == {"open": (1, 1), "in_progress": (1, 3)}
    finished = seen["finished_in_a_day"]
    assert (finished["batches"], finished["succeeded"], finished["errored"]) == (1, 2, 0)
    assert (seen["deliveries"]["due"], seen["deliveries"]["dead"]) == (2, 0)
    assert seen["workers"] == []
    assert 0 <= seen["beat_age"] < 60


def test_it_fits_80_columns_and_24_lines_when_everything_is_wrong(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given nine lanes, all of them paused, with long names and long reasons, and no worker nor beat
    for number in range(9):
        producer.enqueue(request("SECRET"), betas=[f"a-very-long-name-of-a-feature-2026-01-0{number}"])
    carpool.aggregate()
    simulator.arm(*[Fault(operation="create", kind="error", status=402, message="no credit " * 30)] * 9)
    carpool.submit()
    carpool.change("UPDATE requests SET retry_at = 5")

    # When
    shown = succeeded("status")

    # Then
    assert fits_80_columns(shown)
    assert len(shown.splitlines()) < 24
    assert "… and 4 more: carpool lanes" in shown
    assert "no worker answers" in shown
    assert "SECRET" not in shown


def test_check_ends_with_1_and_says_why_as_long_as_something_needs_an_operator(carpool: Carpool) -> None:
    result = run("status", "--check")
    assert result.exit_code == 1
    assert "beat is silent" in result.output

    heartbeat.record(carpool.server)
    assert "beat" not in run("status", "--check").output


def test_without_redis_the_tables_still_tell_their_part(
    carpool: Carpool, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer.enqueue(request("a"))
    carpool.aggregate()
    monkeypatch.setenv("CARPOOL_REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    settings.settings.cache_clear()

    seen = status()

    assert "refused" in seen["redis_error"]
    assert list(seen["batches"]) == ["sealed"]
    assert "Redis can't be used" in succeeded("status")


def test_a_batch_in_doubt_for_too_long_is_named(carpool: Carpool, producer: Producer) -> None:
    producer.enqueue(request("a"))
    carpool.aggregate()
    carpool.change("UPDATE batches SET state = 'submitting', submitting_at = 5, in_doubt_at = 5")
    [batch_id] = batch_ids(carpool.engine)

    assert f"batch {batch_id} has been in doubt for too long" in run("status", "--check").output


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_watch_draws_again_and_ends_well_with_ctrl_c(
    carpool: Carpool, producer: Producer, redis_url: str, database_url: str
) -> None:
    terminal, end = pty.openpty()
    environment = os.environ | {"CARPOOL_REDIS_URL": redis_url, "CARPOOL_DATABASE_URL": database_url}
    command = [sys.executable, "-m", "carpool_worker.cli", "status", "--watch", "--every", "0.1"]
    with subprocess.Popen(
        command, env=environment | {"TERM": "xterm"}, stdin=end, stdout=end, stderr=end
    ) as it:
        os.close(end)
        until_shown(terminal, b"0 requests")
        producer.enqueue_many([request(MODEL)] * 77)
        until_shown(terminal, b"77 requests")
        it.send_signal(signal.SIGINT)
        until_shown(terminal, b"\x1b[?1049l")  # the terminal's own screen is back
        assert it.wait(30) == 0
    os.close(terminal)


def until_shown(terminal: int, text: bytes) -> None:
    shown, deadline = b"", time.monotonic() + 60
    while text not in shown:
        assert time.monotonic() < deadline, shown[-2_000:]
        if select.select([terminal], [], [], 1.0)[0]:
            shown += os.read(terminal, 65_536)
