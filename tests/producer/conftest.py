"""A worker played by hand, and a proxy that loses replies."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis

from carpool import Producer
from carpool.contract import (
    ENTRY_FIELD,
    INBOX,
    QUEUED,
    WAITS,
    Answer,
    Entry,
    Envelope,
    Wait,
    decode_entry,
    decode_wait,
    to_json,
)
from carpool.entries import envelopes

DEADLINE = 20.0
"""Seconds after which a test gives up on a condition."""


class HandWorker:
    """What the worker does with Redis, one step at a time."""

    def __init__(self, url: str) -> None:
        self.redis = redis.Redis.from_url(url, socket_timeout=2 * DEADLINE)

    def packed_entries(self) -> list[Entry]:
        stream: Any = self.redis.xrange(INBOX)
        return [decode_entry(fields[ENTRY_FIELD]) for _, fields in stream]

    def entries(self) -> list[list[Envelope]]:
        return [list(envelopes(entry)) for entry in self.packed_entries()]

    def envelopes(self) -> list[Envelope]:
        return [envelope for entry in self.entries() for envelope in entry]

    def queued(self) -> int:
        return int(self.redis.get(QUEUED) or 0)

    def next_wait(self) -> Wait:
        """Return what a producer asks for next; those who no longer wait are passed over."""
        while True:
            popped: Any = self.redis.blpop([WAITS], timeout=DEADLINE)
            assert popped, "no producer asked for answers"
            if not (wait := decode_wait(popped[1])).is_over:
                return wait

    def push(self, wait: Wait, *request_ids: str, **fields: Any) -> None:
        for request_id in request_ids:
            self.redis.rpush(wait.reply_to, to_json(an_answer(request_id, **fields)))


def an_answer(request_id: str, **fields: Any) -> Answer:
    return Answer(
        **{
            "id": request_id,
            "client": "tests",
            "model": "claude-haiku-4-5",
            "state": "completed",
            "outcome": "succeeded",
            "enqueued_at": "2026-08-01T12:00:00.000Z",
            "finished_at": "2026-08-01T12:30:00.000Z",
            **fields,
        }
    )


class LossyProxy:
    """Forwards to Redis; while `losses` last, it drops a reply that comes back and cuts the connection."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.losses = 0
        self.dropped = 0
        self.spared = 0
        """Replies still to be forwarded before the losses begin."""
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Break the connections of now."""
        for pair in self._pairs:
            _close(*pair)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._pairs.append((near, far))
                self._start(self._forward, near, far)
                self._start(self._answer, far, near)

    def _forward(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while data := near.recv(65536):
                far.sendall(data)
        _close(near, far)

    def _answer(self, far: socket.socket, near: socket.socket) -> None:
        with suppress(OSError):
            while data := far.recv(65536):
                # Only numbers, the replies of the append: handshakes get through.
                if self.losses and data[:1] == b":":
                    if not self.spared:
                        self.losses -= 1
                        self.dropped += 1
                        break
                    self.spared -= 1
                near.sendall(data)
        _close(near, far)

    def _start(self, target: Callable[..., None], *arguments: Any) -> None:
        threading.Thread(target=target, args=arguments, daemon=True).start()


def _close(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


@pytest.fixture
def worker(redis_url: str) -> Iterator[HandWorker]:
    hand_worker = HandWorker(redis_url)
    yield hand_worker
    hand_worker.redis.close()


@pytest.fixture
def producer(redis_url: str) -> Iterator[Producer]:
    with Producer(redis_url, client="tests") as one:
        yield one


@pytest.fixture
def proxy(redis_url: str) -> Iterator[LossyProxy]:
    address = redis.Redis.from_url(redis_url).connection_pool.connection_kwargs
    one = LossyProxy((address["host"], address["port"]))
    yield one
    one.close()


@pytest.fixture
def proxy_url(proxy: LossyProxy, redis_url: str) -> str:
    return f"redis://127.0.0.1:{proxy.port}/{redis_url.rpartition('/')[2]}"


@pytest.fixture
def params() -> dict[str, Any]:
    message = {"role": "user", "content": "Is this review positive? I liked it."}
    return {"model": "claude-haiku-4-5", "max_tokens": 16, "messages": [message]}
