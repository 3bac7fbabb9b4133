"""A service: in a process of its own it enqueues requests, then takes all their answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection

import psutil
from tests.bench import payloads
from tests.bench.progress import Bar

from carpool import Producer

PARTS = 100
"""How often the service says how far it is."""


@dataclass(frozen=True)
class Told:
    """What the service reports once it is through."""

    enqueue_seconds: float
    first_answer_seconds: float
    last_answer_seconds: float
    """Each from the first enqueue on."""


class Service:
    """A service that waits for its orders."""

    def __init__(self, process: psutil.Process, pipe: Connection) -> None:
        self.process = process
        self._pipe = pipe

    def run(self, count: int, within: float, bar: Bar | None = None) -> Told:
        """Have it enqueue so many requests and take their answers.

        Raises:
            TimeoutError: not all answers came in `within` seconds.
        """
        self._pipe.send(count)
        gives_up_at = time.monotonic() + within
        while self._pipe.poll(max(0.0, gives_up_at - time.monotonic())):
            told = self._pipe.recv()
            if isinstance(told, Told):
                return told
            if bar:
                bar.show(f"{told:,} of {count:,} answered", told / count)
        raise TimeoutError(f"not all answers came within {within:.0f} s")


@contextmanager
def service(redis_url: str) -> Iterator[Service]:
    """Run a service."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(redis_url, theirs), daemon=True)
    process.start()
    theirs.close()  # should it die, `recv` ends
    try:
        ours.recv()
        yield Service(psutil.Process(process.pid), ours)
    finally:
        process.terminate()
        process.join()


def _run(redis_url: str, pipe: Connection) -> None:
    next(payloads.prose(1))  # makes the texts
    pipe.send("ready")
    while True:
        pipe.send(_enqueue_and_wait(redis_url, pipe.recv(), pipe))


def _enqueue_and_wait(redis_url: str, count: int, pipe: Connection) -> Told:
    start = time.perf_counter()
    first, succeeded, part = 0.0, 0, max(1, count // PARTS)
    with Producer(redis_url, client="bench", max_queued=0) as producer:
        ids = producer.enqueue_many(payloads.prose(count), reply=True)
        enqueued = time.perf_counter() - start
        for number, result in enumerate(producer.as_completed(ids)):
            first = first or time.perf_counter() - start
            succeeded += result.outcome == "succeeded"
            if number % part == 0:
                pipe.send(number)
        last = time.perf_counter() - start
    if succeeded != count:
        raise AssertionError(f"{succeeded:,} of {count:,} succeeded")
    return Told(enqueued, first, last)
