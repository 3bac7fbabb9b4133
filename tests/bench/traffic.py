"""A service: in a process of its own it enqueues requests, then takes all their answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection

from tests.bench import payloads

from carpool import Producer

SIZE = 1_200
"""Bytes of a request's params."""


@dataclass(frozen=True)
class Told:
    """What the service reports once it is through."""

    enqueue_seconds: float
    first_answer_seconds: float
    last_answer_seconds: float
    """Each from the first enqueue on."""


@contextmanager
def service(redis_url: str, count: int) -> Iterator[tuple[int, Connection]]:
    """Start the service; its process id, and the pipe on which it waits for a word to begin and then sends a Told."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(redis_url, count, theirs), daemon=True)
    process.start()
    assert process.pid
    try:
        yield process.pid, ours
    finally:
        process.terminate()
        process.join()


def _run(redis_url: str, count: int, begin: Connection) -> None:
    begin.recv()
    start = time.perf_counter()
    with Producer(redis_url, client="bench", max_queued=0) as producer:
        ids = producer.enqueue_many(payloads.params(count, SIZE))
        enqueued = time.perf_counter() - start
        results = producer.as_completed(ids)
        outcomes = [next(results).outcome]
        first = time.perf_counter() - start
        outcomes += [result.outcome for result in results]
        last = time.perf_counter() - start
    if outcomes != ["succeeded"] * count:
        raise AssertionError(f"{outcomes.count('succeeded'):,} of {count:,} succeeded")
    begin.send(Told(enqueued, first, last))
