"""Another service's Celery worker, as far as its queue goes, but for Celery's own gap.

Celery takes a message off its list and notes it as unacknowledged afterwards: what dies in between takes the message
along (docs/promises.md). This consumer moves a message to a list of its own in one step, and finds it there when its
connection broke. So what never arrives here was lost by Carpool, or by a Redis that forgot what it had not synced.
"""

from __future__ import annotations

import base64
import json
import threading
from collections import Counter
from typing import Any

import redis
from redis.exceptions import RedisError

TASK_NAME = "books.on_answer"
TASK_QUEUE = "books"
TAKEN = "books:taken"
BLOCK_SECONDS = 0.5
LULL_SECONDS = 0.3


class Consumer:
    """Takes tasks in a thread, through outages of the broker; `received` counts them by the request's id."""

    def __init__(self, redis_url: str) -> None:
        self.received: Counter[str] = Counter()
        self.broken: list[str] = []
        self._redis_url = redis_url
        self._over = threading.Event()
        self._paused = threading.Event()
        self._thread = threading.Thread(target=self._consume)
        self._thread.start()

    def close(self) -> None:
        """Stop consuming."""
        self._over.set()
        self._thread.join()

    def pause(self) -> None:
        """Take no task until it resumes: the service is down."""
        self._paused.set()

    def resume(self) -> None:
        """Take tasks again."""
        self._paused.clear()

    def _consume(self) -> None:
        while not self._over.is_set():
            try:
                self._drain()
            except (RedisError, OSError):
                self._over.wait(LULL_SECONDS)

    def _drain(self) -> None:
        with redis.Redis.from_url(self._redis_url) as broker:
            for left in broker.lrange(TAKEN, 0, -1):
                self._take(broker, left)
            while not self._over.is_set():
                if self._paused.is_set():
                    self._over.wait(LULL_SECONDS)
                elif message := broker.blmove(TASK_QUEUE, TAKEN, BLOCK_SECONDS, "RIGHT", "LEFT"):
                    self._take(broker, message)

    def _take(self, broker: redis.Redis, message: Any) -> None:
        packed = json.loads(message)
        if packed["headers"]["task"] != TASK_NAME:
            self.broken.append(f"a task {packed['headers']['task']}")
        [data], *_ = json.loads(base64.b64decode(packed["body"]))
        self.received[data["id"]] += 1
        broker.lrem(TAKEN, 1, message)
