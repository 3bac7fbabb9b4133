"""The demo's three services; each receives its answers in a different way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty
from typing import ClassVar

from kombu.connection import Connection

from carpool import Callback, Producer, RedisUnavailable, Request, Result, Task, Webhook
from carpool.webhooks import verify
from carpool_worker.demo.instance import Instance

QUEUE = "support"
LISTEN_SECONDS = 0.5


class Client:
    """A service: it enqueues its requests under its name, and keeps the answers."""

    name: ClassVar[str]
    way: ClassVar[str]
    """How it receives its answers."""
    classifies: ClassVar[bool] = True
    """Whether it has reviews classified; otherwise it has files summarised."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.requests = requests
        self.answers: dict[str, Result] = {}
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def done(self) -> bool:
        """Whether every request has its answer."""
        return len(self.answers) == len(self.requests)

    def start(self, instance: Instance) -> None:
        """Listen for answers, then enqueue."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop listening."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _take(self, result: Result) -> None:
        self.answers[result.id] = result

    def _enqueue(self, instance: Instance, callback: Callback | None = None) -> Sequence[str]:
        # http is allowed, as the receiver is on this machine
        with Producer(instance.redis_url, client=self.name, allow_http=True) as producer:
            return producer.enqueue_many(self.requests, callback=callback)


class Shop(Client):
    """Receives a signed webhook for each answer."""

    name = "shop"
    way = "webhook"

    def start(self, instance: Instance) -> None:
        """Serve the webhook's URL, then enqueue."""
        shop = self

        class WebhookHandler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                shop._take(verify(body, dict(self.headers), instance.webhook_secret))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), WebhookHandler)
        self._run(self._server.serve_forever)
        self._enqueue(instance, Webhook(f"http://127.0.0.1:{self._server.server_port}/claude"))

    def stop(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        super().stop()


class Support(Client):
    """Receives a Celery task for each answer, on a queue of its own."""

    name = "support"
    way = "Celery task"

    def start(self, instance: Instance) -> None:
        """Consume the queue, then enqueue."""
        self._run(self._consume, instance.redis_url)
        self._enqueue(instance, Task("support.on_answer", queue=QUEUE))

    def _consume(self, redis_url: str) -> None:
        broker = Connection(redis_url)  # type: ignore[no-untyped-call]
        with broker as connection, connection.SimpleQueue(QUEUE) as queue:
            while not self._stopping.is_set():
                try:
                    message = queue.get(timeout=LISTEN_SECONDS)
                except Empty:
                    continue
                (answer,), _, _ = message.payload  # Celery's protocol 2: args, kwargs, embed
                self._take(Result.from_json(answer))
                message.ack()


class Library(Client):
    """Waits for its answers, in the order in which they arrive."""

    name = "library"
    way = "as_completed"
    classifies = False

    def start(self, instance: Instance) -> None:
        """Enqueue, then wait."""
        ids = self._enqueue(instance)
        threading.Thread(target=self._wait, args=[instance.redis_url, ids], daemon=True).start()

    def _wait(self, redis_url: str, ids: Sequence[str]) -> None:
        # Redis disappears if the demo is stopped half way
        with suppress(RedisUnavailable), Producer(redis_url, client=self.name) as producer:
            for result in producer.as_completed(ids):
                self._take(result)
