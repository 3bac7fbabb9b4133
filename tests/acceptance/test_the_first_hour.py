"""The first hour of somebody new: `carpool up`, the README's service, a webhook on localhost, and what goes wrong.

One `carpool up`, in an empty folder, as `carpool up` is by itself: nothing is set, nothing is sourced.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acceptance.conftest import Carpool, until, wait_until_ready
from tests.fixtures.receiver import Receiver
from tests.papers.fences import fences

from carpool.webhooks import verify
from carpool_worker.processes.up_screen import SNIPPET

COMMAND = [sys.executable, "-m", "carpool_worker.cli"]
ENDS_WITHIN = 30.0
"""Seconds from Ctrl-C to the end: 8 where the machine is not busy."""

ASK = {"model": "claude-haiku-4-5", "max_tokens": 16, "messages": [{"role": "user", "content": "I love it."}]}
USING = "CARPOOL_REDIS_URL is not set: using the `carpool up` that runs in"

pytestmark = pytest.mark.timeout(600)


def environment() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("CARPOOL_", "ANTHROPIC_"))
    }


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "up", "--any-port", "--concurrency", "3", *options],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def up(folder: Path) -> Iterator[Carpool]:
    """A `carpool up` as it is by itself."""
    process = start(folder)
    try:
        wait_until_ready(process)
        yield Carpool.of(process, folder / ".carpool")
    finally:
        process.terminate()
        process.communicate(timeout=100)


def run(folder: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment() | more,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def carpool(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return run(folder, *COMMAND, *arguments, **more)


def python(folder: Path, text: str, **more: str) -> subprocess.CompletedProcess[str]:
    return run(folder, sys.executable, "-c", text, **more)


def test_the_first_hour_from_an_empty_folder_to_ctrl_c(up: Carpool, folder: Path, receiver: Receiver) -> None:
    the_readmes_service_and_the_snippet_get_their_answers(folder)
    every_command_finds_it_and_its_settings(folder)
    a_webhook_on_localhost_is_called_and_the_world_is_not(up, folder, receiver)
    what_a_newcomer_gets_wrong_says_the_cause(folder)
    a_wrong_message_in_celerys_form_ends_as_a_discarded_request(up, folder)
    a_second_up_and_unknown_faults_are_refused(folder)
    ctrl_c_ends_it_whatever_receivers_do_and_then_commands_say_what_to_start(up, folder)


def the_readmes_service_and_the_snippet_get_their_answers(folder: Path) -> None:
    service = next(one.text for one in fences("README.md") if "producer.wait(" in one.text)
    for text in (service, SNIPPET):
        began = time.monotonic()
        ran = python(folder, text)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.startswith("[simulated] ")
        assert ran.stderr == f"{USING} {folder}\n"
        assert time.monotonic() - began < 60  # some 5 s where the machine is not busy


def every_command_finds_it_and_its_settings(folder: Path) -> None:
    for command in ("status", "usage", "requests", "batches", "deliveries", "lanes"):
        shown = carpool(folder, command)
        assert shown.returncode == 0, shown.stdout + shown.stderr
        assert shown.stderr == "Using the `carpool up` that runs in this folder.\n"
    asked = python(
        folder,
        "from carpool_worker.commands.adoption import adopt; adopt('status')\n"
        "from carpool_worker.settings import settings; print(settings().flush_interval)",
    )
    assert asked.stdout == "2.0\n"


def a_webhook_on_localhost_is_called_and_the_world_is_not(
    up: Carpool, folder: Path, receiver: Receiver
) -> None:
    # Given a listener, and requests with callbacks to this machine and to the README's example
    listening = subprocess.Popen(
        [*COMMAND, "listen", "--forward-to", receiver.url("/copies")],
        cwd=folder,
        env=environment() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert listening.stdout
    assert listening.stdout.readline().startswith("Copies of deliveries go to")
    enqueued = python(
        folder,
        "from carpool import Producer, Webhook\n"
        f"for url in ('http://localhost:{receiver.port}/hook', 'https://billing.example.com/claude'):\n"
        f"    print(Producer().enqueue({ASK!r}, callback=Webhook(url), metadata={{'n': 1}}))",
    )
    here, world = enqueued.stdout.split()

    # Then the former is called, the latter is given up on and says why, and copies of both have come
    until(lambda: receiver.posts["/hook"] and len(receiver.posts["/copies"]) >= 2)
    listening.send_signal(signal.SIGINT)
    listening.communicate(timeout=30)
    assert listening.returncode == 0
    [(headers, body)] = receiver.posts["/hook"]
    assert verify(body, headers, up.webhook_secret).id == here
    copies = {verify(body, headers, up.webhook_secret).id for headers, body in receiver.posts["/copies"]}
    assert copies == {here, world}
    until(lambda: "CARPOOL_WEBHOOK_PUBLIC is" in carpool(folder, "deliveries", COLUMNS="200").stdout)

    # And a sample verifies as well
    assert carpool(folder, "trigger", "--forward-to", receiver.url("/sample")).returncode == 0
    [(headers, body)] = receiver.posts["/sample"]
    assert verify(body, headers, up.webhook_secret).text.startswith("[sample]")


BROKEN = {
    "a typo in a keyword": ("p.enqueue(ASK, calback=None)", "'calback': did you mean 'callback'?"),
    "a typo in a param": ("p.enqueue(ASK | {'temprature': 1})", "did you mean 'temperature'?"),
    "no tokens": (
        "p.enqueue(ASK | {'max_tokens': 0})",
        "InvalidRequest: max_tokens: must be an integer of 1",
    ),
    "a stream": ("p.enqueue(ASK | {'stream': True})", "InvalidRequest: stream: must not be set"),
    "headers": (
        "p.enqueue(ASK | {'extra_headers': {}})",
        "extra_headers: can't be sent: a batch has headers",
    ),
    "bytes": ("p.enqueue(ASK, metadata=b'x')", "metadata: can't be JSON: it is a bytes"),
    "plain http": (
        "p.enqueue(ASK, callback=Webhook('http://example.com/x'))",
        "callback.url: must be https (allow_http=True",
    ),
    "an id of nobody": ("p.wait('0' * 32, 60)", "RequestUnknown: client default has enqueued no request 000"),
    "a source that fails": (
        "p.enqueue_many(ASK | {'max_tokens': 9 // n} for n in (1, 0))",
        "SourceFailed: the iterable of requests raised ZeroDivisionError",
    ),
    "another Redis": (
        "Producer('redis://127.0.0.1:1/0').enqueue(ASK)",
        "RedisUnavailable: Redis at redis://127.0.0.1:1/0 is unavailable: Error 111",
    ),
}


def what_a_newcomer_gets_wrong_says_the_cause(folder: Path) -> None:
    # In one process, as starting Python ten times would take longer than all else
    lines = [
        "import traceback",
        "from carpool import Producer, Webhook",
        f"ASK, p = {ASK!r}, Producer()",
        *(
            f"try: {text}\nexcept Exception: traceback.print_exc()\nimport sys; sys.stderr.write('END\\n')"
            for text, _ in BROKEN.values()
        ),
    ]
    ran = python(folder, "\n".join(lines))
    said = ran.stderr.split("END\n")
    assert len(said) == len(BROKEN) + 1, ran.stderr
    for (name, (_, cause)), shown in zip(BROKEN.items(), said, strict=False):
        assert cause in shown, f"{name}:\n{shown}"
        assert len(shown.splitlines()) <= 25, f"{name}:\n{shown}"


def a_wrong_message_in_celerys_form_ends_as_a_discarded_request(up: Carpool, folder: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "celery.md").read_text()
    [message] = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    text = (
        "import base64, json, os, sys, redis\n"
        f"message = json.loads({message!r})\n"
        "args, kwargs, rest = json.loads(base64.b64decode(message['body']))\n"
        "kwargs['params']['max_tokens'] = 0\n"
        "message['body'] = base64.b64encode(json.dumps([args, kwargs, rest]).encode()).decode()\n"
        f"redis.Redis.from_url({up.redis_url!r}).lpush('carpool.enqueue', json.dumps(message))\n"
        "from carpool import Producer, request_id_of\n"
        "id = request_id_of('billing', 'refused celery ' + message['headers']['id'])\n"
        "print(id)\n"
    )
    pushed = python(folder, text)
    assert pushed.returncode == 0, pushed.stderr
    request_id = pushed.stdout.strip()
    until(lambda: request_id in carpool(folder, "requests", "--state", "discarded", "--json").stdout)


def a_second_up_and_unknown_faults_are_refused(folder: Path) -> None:
    second = carpool(folder, "up")
    assert second.returncode == 1
    assert "Carpool is already running on" in second.stderr
    unknown = carpool(folder, "up", "--fault", "gremlins")
    assert unknown.returncode == 2
    assert "there is no fault 'gremlins'; there are wrong-key" in " ".join(unknown.stderr.split()).replace(
        "│ ", ""
    )
    real = carpool(folder, "up", "--data", "other", "--fault", "down", ANTHROPIC_API_KEY="sk-ant-not-a-key")
    assert real.returncode == 1
    assert "--fault is for the simulator: unset ANTHROPIC_API_KEY" in real.stderr


def ctrl_c_ends_it_whatever_receivers_do_and_then_commands_say_what_to_start(
    up: Carpool, folder: Path
) -> None:
    # Given a receiver that takes connections and never answers
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        port = hanging.getsockname()[1]
        ran = python(
            folder,
            "from carpool import Producer, Webhook\n"
            "p = Producer()\n"
            f"ids = [p.enqueue({ASK!r}, callback=Webhook('http://localhost:{port}/x')) for _ in range(5)]\n"
            "p.wait(ids[0])",
        )
        assert ran.returncode == 0, ran.stderr
        hanging.settimeout(60)
        connection, _ = hanging.accept()
        with connection:
            # When Ctrl-C is pressed
            began = time.monotonic()
            up.process.send_signal(signal.SIGINT)
            assert up.process.wait(ENDS_WITHIN) == 0
            assert time.monotonic() - began < ENDS_WITHIN

    # Then commands and producers say that nothing runs here, and what to start
    assert not (folder / ".carpool" / "running.json").exists()
    shown = carpool(folder, "quarantine")
    assert (shown.returncode, shown.stdout) == (1, "")
    assert "no `carpool up` runs in this folder) can't be used" in shown.stderr
    assert "start Carpool here with `carpool up`" in shown.stderr
    away = python(folder, f"from carpool import Producer\nProducer().enqueue({ASK!r})")
    assert "CARPOOL_REDIS_URL is not set, and no `carpool up` runs in this folder" in away.stderr
    assert len(away.stderr.splitlines()) <= 20


def test_a_wrong_key_can_be_practised_and_a_second_ctrl_c_ends_it_now(tmp_path: Path) -> None:
    process = start(tmp_path, "--fault", "wrong-key")
    try:
        wait_until_ready(process)
        python(tmp_path, f"from carpool import Producer\nProducer().enqueue({ASK!r})")
        until(lambda: "invalid x-api-key" in carpool(tmp_path, "status", COLUMNS="300").stdout)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)  # two presses of a key
        process.send_signal(signal.SIGINT)
        assert process.wait(ENDS_WITHIN) == 0
        assert time.monotonic() - began < ENDS_WITHIN
    finally:
        process.kill()
        process.communicate(timeout=100)
