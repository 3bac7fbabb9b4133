"""docs/examples, each run as its reader would: a process of its own beside a real `carpool up`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.conftest import Carpool, RunningCarpool, until
from tests.conftest import free_port

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
ENDS_WITHIN = 60.0


@contextmanager
def running(
    carpool: Carpool, log: Path, *command: str, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a service with the environment that `.carpool/env` holds, its output in `log`, until the end of the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=EXAMPLES,
            env=in_the_shell_of(carpool) | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(ENDS_WITHIN)


def in_the_shell_of(carpool: Carpool) -> dict[str, str]:
    names = {"CARPOOL_REDIS_URL": carpool.redis_url, "CARPOOL_WEBHOOK_SECRET": carpool.webhook_secret}
    return os.environ | names | {"PYTHONDONTWRITEBYTECODE": "1"}


def ask(url: str, body: Any = None) -> Any:
    """Return what the service answers; None while it does not listen yet."""
    request = urllib.request.Request(
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError:
        raise
    except OSError:
        return None


def test_the_fastapi_service_gets_its_answer_by_a_signed_webhook(
    running_carpool: RunningCarpool, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{(port := str(free_port()))}"
    uvicorn = ("uvicorn", "fastapi_service:app", "--port", port)
    with (
        running_carpool() as carpool,
        running(carpool, tmp_path / "log", *uvicorn, PUBLIC_URL=url),
    ):
        # When a caller posts a review
        review = {"number": 1, "text": "I love it, best purchase of the year."}
        request_id = until(lambda: ask(f"{url}/reviews", review))["request"]

        # Then the service soon has the verdict, and believes nobody else
        assert until(lambda: ask(f"{url}/reviews/{request_id}")["verdict"]) == "[simulated] positive"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            ask(f"{url}/claude", {"type": "request.completed"})


def test_the_celery_service_gets_its_answer_as_a_task(
    running_carpool: RunningCarpool, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    celery = ("celery", "--app", "celery_service")
    worker = (*celery, "worker", "--queues", "reviews", "--loglevel", "INFO", "--concurrency", "1")
    call = (*celery, "call", "reviews.classify", "--queue", "reviews", "--args", '[1, "I love it."]')
    with running_carpool() as carpool, running(carpool, log, *worker):
        # When its task is called, as the file's first lines do it
        called = subprocess.run(
            [sys.executable, "-m", *call], cwd=EXAMPLES, env=in_the_shell_of(carpool), check=False
        )
        assert called.returncode == 0

        # Then its other task is called with the answer
        until(lambda: "review 1 is [simulated] positive" in log.read_text())


def test_the_asyncio_script_prints_each_answer(running_carpool: RunningCarpool, tmp_path: Path) -> None:
    reviews = tmp_path / "reviews.txt"
    reviews.write_text("I love it.\nIt broke after a day, terrible.\nIt is a kettle.\n")
    command = [sys.executable, str(EXAMPLES / "asyncio_script.py"), str(reviews)]
    with running_carpool() as carpool:
        first, second = (
            subprocess.run(
                command,
                env=in_the_shell_of(carpool),
                capture_output=True,
                text=True,
                timeout=ENDS_WITHIN,
                check=False,
            )
            for _ in range(2)
        )

    # Then each review has its verdict, and a second run gets the same answers
    assert first.returncode == 0, first.stderr
    assert sorted(first.stdout.splitlines()) == [
        "[simulated] negative: It broke after a day, terrible.",
        "[simulated] neutral: It is a kettle.",
        "[simulated] positive: I love it.",
    ]
    assert sorted(second.stdout.splitlines()) == sorted(first.stdout.splitlines())


def test_a_services_own_tests_pass_with_the_producer_in_memory() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    tested = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout
    assert "4 passed" in tested.stdout


def with_the_gateway(carpool: Carpool) -> dict[str, str]:
    """Return what `.carpool/env` tells clients of Anthropic's API."""
    return {"ANTHROPIC_BASE_URL": carpool.gateway_url, "ANTHROPIC_API_KEY": carpool.gateway_secret}


def run_example(carpool: Carpool, *command: str) -> str:
    """Run an example to its end; return what it printed."""
    ran = subprocess.run(
        command,
        cwd=EXAMPLES,
        env=in_the_shell_of(carpool) | with_the_gateway(carpool),
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_programs_use_the_gateway_with_the_import_or_nothing_changed(
    running_carpool: RunningCarpool, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{(port := str(free_port()))}"
    uvicorn = ("uvicorn", "fastapi_anthropic:app", "--port", port)
    with (
        running_carpool() as carpool,
        running(carpool, tmp_path / "log", *uvicorn, **with_the_gateway(carpool)),
    ):
        # A script with batches prints each answer
        lines = run_example(carpool, sys.executable, "anthropic_batches.py").splitlines()
        assert sorted(line.split()[0] for line in lines) == ["doc-0", "doc-1", "doc-2"]
        assert all("[simulated]" in line for line in lines)

        # curl gets its Message, and later what a webhook would have got
        held, followed = map(json.loads, run_example(carpool, "sh", "curl.sh").splitlines())
        assert held["type"] == "message"
        assert followed["type"] == "request.completed"
        assert followed["data"]["message"]["content"][0]["text"] == held["content"][0]["text"]

        # A FastAPI service has its verdict without anybody waiting
        review = {"number": 1, "text": "I love it, best purchase of the year."}
        assert until(lambda: ask(f"{url}/reviews", review)) == {"number": 1}
        assert until(lambda: ask(f"{url}/reviews/1")["verdict"]) == "[simulated] positive"
