"""The producer's stages against raw XADDs of the same entries, to the same Redis, in the same run: medians of three."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from time import perf_counter
from typing import Any

import psutil
import redis
from tests.bench import payloads, places
from tests.bench.bare import timed
from tests.bench.meter import Processes, measured
from tests.bench.rows import Row, at_least, median

from carpool import AsyncProducer, Producer, Webhook
from carpool.contract import ENTRY_FIELD, INBOX, QUEUED

ENQUEUE_MANY_AIM = 150_000.0
AT_ONCE_AIM = 40_000.0
"""Requests a second and process."""

ENQUEUE_SHARE_AIM = 0.65
"""Of the rate of redis-py's bare XADD."""

ROUNDS = 3
SINGLE_SHARE = 20
"""One request in so many is enqueued by itself, as that takes longer."""

COROUTINES = 100
"""How many enqueue at once."""

CALLBACK = Webhook("https://billing.example.com/claude")
SERVICE = "service"
"""The name of this process, in which the producer runs."""


def run(server: redis.Redis, count: int) -> Iterator[Row]:
    """Measure the ways into the inbox; it is emptied before and after."""
    url = places.url_of(server)
    watched = {SERVICE: [psutil.Process()], "valkey": [places.valkey_process(server)]}
    bench = Bench(server, lambda: watched)
    with Producer(url, max_queued=0) as producer:
        producer.enqueue(next(payloads.mixed(1)))
        yield bench.enqueue_many(producer, count)
        yield bench.enqueue(producer, count // SINGLE_SHARE)
    yield bench.enqueue_at_once(url, count // SINGLE_SHARE * 2)


class Bench:
    """Measures what appends to the inbox, and then the bare append of the same entries."""

    def __init__(self, server: redis.Redis, processes: Processes) -> None:
        self._server = server
        self._processes = processes

    def enqueue_many(self, producer: Producer, count: int) -> Row:
        """Enqueue from one iterable."""
        requests = list(payloads.mixed(count))  # building them is the service's own work
        row = self._median("enqueue_many", count, lambda: producer.enqueue_many(requests, callback=CALLBACK))
        return replace(row, aims=(at_least(row.rate, ENQUEUE_MANY_AIM),))

    def enqueue(self, producer: Producer, count: int) -> Row:
        """Enqueue one by one."""
        requests = list(payloads.mixed(count))

        def enqueue() -> None:
            for request in requests:
                producer.enqueue(request, callback=CALLBACK)

        row = self._median("enqueue", count, enqueue)
        share = (row.bare_seconds or 0.0) / row.seconds
        return replace(row, aims=(at_least(share, ENQUEUE_SHARE_AIM, "× bare XADD's rate"),))

    def enqueue_at_once(self, url: str, count: int) -> Row:
        """Enqueue one by one from many coroutines of one AsyncProducer."""
        requests = list(payloads.mixed(count))

        def enqueue() -> float:
            return asyncio.run(_enqueue_at_once(url, requests))

        row = self._median(f"AsyncProducer, {COROUTINES} coroutines", count, enqueue)
        return replace(row, aims=(at_least(row.rate, AT_ONCE_AIM),))

    def _median(self, stage: str, count: int, enqueue: Callable[[], object]) -> Row:
        """Measure it ROUNDS times; where `enqueue` returns seconds, those count."""
        return median([self._once(stage, count, enqueue) for _ in range(ROUNDS)])

    def _once(self, stage: str, count: int, enqueue: Callable[[], object]) -> Row:
        self._server.delete(INBOX, QUEUED)
        with measured(self._processes) as spent:
            found = enqueue()
        seconds = found if isinstance(found, float) else spent.seconds
        bare_seconds = self._append_raw()
        return Row(
            stage, "", count, seconds, "redis-py's XADD of the same entries", bare_seconds, cpu=spent.cpu
        )

    def _append_raw(self) -> float:
        stream: Any = self._server.xrange(INBOX)
        self._server.delete(INBOX, QUEUED)
        entries = [fields[ENTRY_FIELD] for _, fields in stream]

        def append() -> None:
            for entry in entries:
                self._server.xadd(INBOX, {ENTRY_FIELD: entry})

        seconds = timed(append)
        self._server.delete(INBOX, QUEUED)
        return seconds


async def _enqueue_at_once(url: str, requests: list[payloads.Params]) -> float:
    waiting = iter(requests)

    async def coroutine(producer: AsyncProducer) -> None:
        for request in waiting:  # shared: each takes the next
            await producer.enqueue(request, callback=CALLBACK)

    async with AsyncProducer(url, max_queued=0) as producer:
        started = perf_counter()
        await asyncio.gather(*(coroutine(producer) for _ in range(COROUTINES)))
        return perf_counter() - started
