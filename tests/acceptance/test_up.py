"""`carpool up`, with real processes against the simulator."""

from __future__ import annotations

import json
import signal
import urllib.request
from base64 import b64encode
from typing import Any
from urllib.parse import urlsplit

import psutil
from tests.acceptance.conftest import RunningCarpool, until, up

from carpool import Producer

PROGRAMS = {"valkey", "simulator", "flower", "metrics", "worker", "beat"}
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


def test_takes_requests_shows_the_batch_in_flower_and_leaves_nothing_behind_on_ctrl_c(
    running_carpool: RunningCarpool,
) -> None:
    with running_carpool() as carpool:
        # Given a Carpool that is up
        processes = carpool.processes()

        # When a service enqueues and waits
        with Producer(carpool.redis_url) as producer:
            result = producer.wait(producer.enqueue(PARAMS), timeout=60)

        # Then it gets its answer, and Flower has a row for the batch, which succeeded
        assert result.outcome == "succeeded"
        assert "positive" in result.text
        batch = until(
            lambda: [
                row
                for row in flower_tasks(carpool.flower_url).values()
                if row["name"] == "batch claude-haiku-4-5" and row["state"] == "SUCCESS"
            ]
        )
        assert "1 succeeded" in batch[0]["result"]
        assert "I love it" not in json.dumps(batch)

        # And Prometheus is told of it
        with urllib.request.urlopen(carpool.metrics_url, timeout=10) as scraped:
            assert (
                b'carpool_results_total{model="claude-haiku-4-5",outcome="succeeded"} 1.0' in scraped.read()
            )

        # And its secrets are for its owner alone: in no file that others can read, on no command line
        private = [carpool.data / name for name in ("env", "webhook_secret", "flower_password")]
        lines = "\n".join(" ".join(process.cmdline()) for process in carpool.processes())
        assert [oct(path.stat().st_mode & 0o777) for path in private] == ["0o600"] * 3
        assert all(path.read_text().strip() not in lines for path in private[1:])

        # When Ctrl-C is pressed, Then it ends well and nothing of it is left
        assert carpool.stop(signal.SIGINT) == 0
        assert [process for process in processes if process.is_running()] == []


def test_a_killed_worker_comes_back_and_keeps_its_requests(running_carpool: RunningCarpool) -> None:
    with running_carpool(latency=2.0) as carpool:
        # Given a request on its way
        assert carpool.pids().keys() == PROGRAMS
        worker = psutil.Process(carpool.pids()["worker"])
        children = worker.children()
        with Producer(carpool.redis_url) as producer:
            request_id = producer.enqueue(PARAMS)

            # When the worker is killed outright
            worker.kill()

            # Then its children go with it, the supervisor starts another, and the answer comes
            psutil.wait_procs(children, timeout=10)
            assert [child for child in children if child.is_running()] == []
            until(lambda: carpool.pids().get("worker", worker.pid) != worker.pid)
            assert producer.wait(request_id, timeout=90).outcome == "succeeded"

        # And SIGTERM stops it all as well
        processes = carpool.processes()
        assert carpool.stop(signal.SIGTERM) == 0
        assert [process for process in processes if process.is_running()] == []


def test_what_was_enqueued_outlives_a_kill_of_everything(running_carpool: RunningCarpool) -> None:
    # Given a Carpool with a request, on a folder that no second one may use
    with running_carpool(CARPOOL_FLUSH_INTERVAL="3600") as carpool:
        with Producer(carpool.redis_url) as producer:
            request_id = producer.enqueue(PARAMS)
        with up(carpool.data) as second:
            said, _ = second.communicate(timeout=30)
        assert second.returncode == 1
        assert f"already (process {carpool.process.pid})" in said
        assert len(said.splitlines()) == 1

        # When `carpool up` is killed outright
        processes = carpool.processes()
        carpool.process.kill()

        # Then its parts end too
        psutil.wait_procs(processes, timeout=60)
        assert [process for process in processes if process.is_running()] == []

    # And the next one on that folder answers the request
    with running_carpool() as carpool, Producer(carpool.redis_url) as producer:
        assert producer.wait(request_id, timeout=60).outcome == "succeeded"
