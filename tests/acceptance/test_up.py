"""`carpool up`, with real processes against the simulator."""

from __future__ import annotations

import json
import signal
import urllib.request
from base64 import b64encode
from typing import Any
from urllib.parse import urlsplit

import psutil
from tests.acceptance.conftest import Carpool, RunningCarpool, until, up
from tests.fixtures.processes import running

from carpool import Producer

PROGRAMS = {"valkey", "simulator", "flower", "metrics", "worker", "beat", "gateway", "console"}
PARAMS = {
    "model": "claude-haiku-4-5",
    "max_tokens": 16,
    "messages": [{"role": "user", "content": "Is this review positive, negative or neutral? I love it."}],
}


def flower_tasks(flower_url: str) -> dict[str, dict[str, Any]]:
    """Ask Flower's HTTP API for its rows."""
    url = urlsplit(flower_url)
    credentials = b64encode(f"{url.username}:{url.password}".encode()).decode()
    request = urllib.request.Request(
        f"http://{url.hostname}:{url.port}/api/tasks", headers={"Authorization": f"Basic {credentials}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: dict[str, dict[str, Any]] = json.load(answer)
        return found


def batches_that_succeeded(carpool: Carpool) -> list[dict[str, Any]]:
    rows = flower_tasks(carpool.flower_url).values()
    return [row for row in rows if row["name"] == f"batch {PARAMS['model']}" and row["state"] == "SUCCESS"]


def assert_it_is_shown(carpool: Carpool) -> None:
    """Flower has a row for the batch, Prometheus has its result, and neither shows its contents."""
    [batch] = until(lambda: batches_that_succeeded(carpool))
    assert "1 succeeded" in batch["result"]
    assert "I love it" not in json.dumps(batch)
    with urllib.request.urlopen(carpool.metrics_url, timeout=10) as scraped:
        assert b'carpool_results_total{model="claude-haiku-4-5",outcome="succeeded"} 1.0' in scraped.read()


def assert_secrets_are_private(carpool: Carpool) -> None:
    """They are for their owner alone: in no file that others can read, on no command line."""
    private = [carpool.data / name for name in ("env", "webhook_secret", "flower_password")]
    lines = "\n".join(" ".join(process.cmdline()) for process in carpool.processes())
    assert [oct(path.stat().st_mode & 0o777) for path in private] == ["0o600"] * 3
    assert all(path.read_text().strip() not in lines for path in private[1:])


def test_what_was_enqueued_outlives_a_kill_of_everything_and_ctrl_c_leaves_nothing_behind(
    running_carpool: RunningCarpool,
) -> None:
    # Given a Carpool with a request, on a folder that no second one may use
    with running_carpool(CARPOOL_FLUSH_INTERVAL="3600") as carpool:
        with Producer(carpool.redis_url) as producer:
            request_id = producer.enqueue(PARAMS)
        with up(carpool.data) as second:
            said, _ = second.communicate(timeout=30)
        assert second.returncode == 1
        assert f"already running on {carpool.data} (process {carpool.process.pid})" in said
        assert len(said.splitlines()) == 1

        # When `carpool up` is killed outright
        assert carpool.pids().keys() == PROGRAMS
        processes = carpool.processes()
        carpool.process.kill()

        # Then its parts end too
        psutil.wait_procs(processes, timeout=60)
        assert running(processes) == []

    # And the next one on that folder answers the request, and shows its batch
    with running_carpool() as carpool:
        processes = carpool.processes()
        with Producer(carpool.redis_url) as producer:
            result = producer.wait(request_id, timeout=60)
        assert result.outcome == "succeeded"
        assert "positive" in result.text
        assert_it_is_shown(carpool)
        assert_secrets_are_private(carpool)

        # When Ctrl-C is pressed, Then it ends well and nothing of it is left
        assert carpool.stop(signal.SIGINT) == 0
        assert running(processes) == []
