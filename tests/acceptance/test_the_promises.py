"""5,000 requests of three clients over two models, with every kind of callback, through real processes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psutil
import pytest
from celery import Celery
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from standardwebhooks import Webhook as ForeignVerifier
from tests.acceptance.conftest import Carpool, RunningCarpool, until
from tests.fixtures import queries
from tests.fixtures.processes import running

from carpool import Producer, Request, Task, Webhook
from carpool_worker.database import open_engine
from carpool_worker.simulator import RemoteSimulator

EACH = 1_700  # requests of each client: 5,100 in all
MODELS = ("claude-haiku-4-5", "claude-sonnet-4-5")
QUICK_TO_RECOVER = {
    "CARPOOL_CLAIM_INTERVAL": "3",
    "CARPOOL_SUBMIT_TIMEOUT": "5",
    "CARPOOL_SETTLE_INTERVAL": "2",
    "CARPOOL_FRESH_SETTLE_INTERVAL": "2",
    "CARPOOL_WEBHOOK_TIMEOUT": "3",
}
TASK_QUEUE = "bookkeeping"

pytestmark = pytest.mark.timeout(300)


def requests(name: str, count: int = EACH) -> Iterator[Request]:
    for n in range(count):
        message = {"role": "user", "content": f"{name} {n}: is this review positive, negative or neutral?"}
        params = {"model": MODELS[n % 2], "max_tokens": 32, "messages": [message]}
        yield Request(params, metadata={"n": n})


@contextmanager
def webhook_receiver(secret: str) -> Iterator[tuple[str, Counter[str]]]:
    """A receiver that verifies with the foreign library; yields its URL and how often each id came."""
    received: Counter[str] = Counter()
    verifier = ForeignVerifier(secret)

    class Receiver(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            data = verifier.verify(body, dict(self.headers))["data"]
            assert data["id"] == self.headers["webhook-id"]
            received[data["id"]] += 1
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

    with Server(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/claude", received
        server.shutdown()


@contextmanager
def task_consumer(redis_url: str) -> Iterator[Counter[str]]:
    """What another service's Celery worker would see on its queue."""
    received: Counter[str] = Counter()
    over = threading.Event()

    def take(body: Any, message: Any) -> None:
        assert message.headers["task"] == "bookkeeping.on_answer"
        [data], *_ = body
        received[data["id"]] += 1
        message.ack()

    def consume() -> None:
        queue = Queue(TASK_QUEUE, Exchange(TASK_QUEUE), routing_key=TASK_QUEUE)
        with Connection(redis_url) as connection, connection.Consumer(queue, callbacks=[take]):
            while not over.is_set():
                try:
                    connection.drain_events(timeout=0.5)
                except TimeoutError:
                    continue

    thread = threading.Thread(target=consume)
    thread.start()
    try:
        yield received
    finally:
        over.set()
        thread.join()


def kill_a_worker(carpool: Carpool) -> None:
    """Kill it outright: its children go with it, and the supervisor starts another."""
    worker = psutil.Process(carpool.pids()["worker"])
    children = worker.children()
    worker.kill()
    psutil.wait_procs(children, timeout=10)
    assert running(children) == []
    until(lambda: carpool.pids().get("worker", worker.pid) != worker.pid)


def requests_by_state(carpool: Carpool) -> Counter[str]:
    engine = open_engine(carpool.database_url)
    try:
        return queries.requests_by_state(engine)
    finally:
        engine.dispose()


def assert_nothing_was_quoted(carpool: Carpool) -> None:
    """No prompt, answer or secret in any log."""
    logs = list((carpool.data / "logs").iterdir())
    assert {"worker.log", "beat.log", "flower.log", "simulator.log"} <= {log.name for log in logs}
    for log in logs:
        said = log.read_text()
        for content in ("is this review", "[simulated]", carpool.webhook_secret):
            assert content not in said, log.name


def assert_a_service_that_knows_only_celery_is_answered(carpool: Carpool, tasked: Counter[str]) -> None:
    """A Celery app that has none of our code sends a request, and one that breaks a rule: the log says which."""
    before = len(tasked)
    callback = {"kind": "task", "name": "bookkeeping.on_answer", "queue": TASK_QUEUE}
    [request] = requests("celery", 1)
    with Celery("foreign", broker=carpool.redis_url) as celery:
        kwargs = {"params": request.params, "callback": callback, "client": "foreign"}
        celery.send_task("carpool.enqueue", kwargs=kwargs, queue="carpool.enqueue")
        broken = {"params": {**request.params, "max_tokens": 0}, "client": "foreign"}
        refused = celery.send_task("carpool.enqueue", kwargs=broken, queue="carpool.enqueue")
        until(lambda: len(tasked) == before + 1)
        log = carpool.data / "logs" / "worker.log"
        until(lambda: refused.id in log.read_text() and "max_tokens" in log.read_text())


@pytest.mark.parametrize("killed", [False, True], ids=["undisturbed", "a worker killed with -9"])
def test_every_request_is_answered_once_and_run_once(running_carpool: RunningCarpool, killed: bool) -> None:
    with (
        running_carpool(latency=2.0, concurrency=3, **QUICK_TO_RECOVER) as carpool,
        webhook_receiver(carpool.webhook_secret) as (url, hooked),
        task_consumer(carpool.redis_url) as tasked,
        Producer(carpool.redis_url, client="web", allow_http=True) as web,
        Producer(carpool.redis_url, client="books") as books,
        Producer(carpool.redis_url, client="script") as script,
    ):
        # Given three clients, each with its own kind of callback
        web_ids = web.enqueue_many(requests("web"), callback=Webhook(url))
        task = Task("bookkeeping.on_answer", queue=TASK_QUEUE)
        book_ids = books.enqueue_many(requests("books"), callback=task)
        script_ids = script.enqueue_many(requests("script"))

        # When, perhaps, the worker dies in the middle, twice
        if killed:
            until(lambda: requests_by_state(carpool).total() > EACH)
            kill_a_worker(carpool)
            until(lambda: requests_by_state(carpool)["completed"] > 0, within=120)
            kill_a_worker(carpool)

        # Then each answer comes back to its own callback
        answered = Counter(result.id for result in script.as_completed(script_ids, timeout=150))
        assert answered == Counter(script_ids)
        until(lambda: len(hooked) == EACH and len(tasked) == EACH, within=150)
        assert hooked.keys() == set(web_ids)
        assert tasked.keys() == set(book_ids)
        if not killed:  # a callback may see an answer twice only after a crash
            assert set(hooked.values()) == set(tasked.values()) == {1}
            assert_a_service_that_knows_only_celery_is_answered(carpool, tasked)

        # And every request was accepted, ended, run and paid for exactly once
        ended = 3 * EACH + (not killed)
        refused = {} if killed else {"discarded": 1}  # the one that breaks a rule
        assert requests_by_state(carpool) == {"completed": ended} | refused
        ledger = RemoteSimulator(carpool.simulator_url).ledger()
        assert ledger["ran_twice"] == []
        assert_nothing_was_quoted(carpool)
        assert ledger["billed"] == ledger["requests_run"] == ledger["distinct_custom_ids"] == ended
