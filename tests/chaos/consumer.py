"""Another service's Celery worker, as far as its queue goes."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from kombu.connection import Connection
from kombu.entity import Exchange, Queue

TASK_NAME = "books.on_answer"
TASK_QUEUE = "books"
DRAIN_SECONDS = 0.5
LULL_SECONDS = 0.3


class Consumer:
    """Takes tasks in a thread, through outages of the broker; `received` counts them by the request's id."""

    def __init__(self, redis_url: str) -> None:
        self.received: Counter[str] = Counter()
        self.broken: list[str] = []
        self._redis_url = redis_url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._consume)
        self._thread.start()

    def close(self) -> None:
        """Stop consuming."""
        self._over.set()
        self._thread.join()

    def _consume(self) -> None:
        while not self._over.is_set():
            try:
                self._drain()
            except Exception:  # kombu and redis raise a dozen kinds when the broker dies
                self._over.wait(LULL_SECONDS)

    def _drain(self) -> None:
        queue = Queue(TASK_QUEUE, Exchange(TASK_QUEUE), routing_key=TASK_QUEUE)  # type: ignore[no-untyped-call]
        broker = Connection(self._redis_url)  # type: ignore[no-untyped-call]
        with broker as connection, connection.Consumer(queue, callbacks=[self._take]):
            while not self._over.is_set():
                try:
                    connection.drain_events(timeout=DRAIN_SECONDS)
                except TimeoutError:
                    continue

    def _take(self, body: Any, message: Any) -> None:
        if message.headers["task"] != TASK_NAME:
            self.broken.append(f"a task {message.headers['task']}")
        [data], *_ = body
        self.received[data["id"]] += 1
        message.ack()
