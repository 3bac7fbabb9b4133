"""The producer's stages against raw XADDs of the same bytes, to the same Redis, in the same run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import redis
from tests.bench.rows import Row

from carpool import AsyncProducer, Producer, Webhook
from carpool.contract import ENTRY_FIELD, INBOX, QUEUED

ENQUEUE_AIM = 12_000.0
ENQUEUE_MANY_AIM = 120_000.0
AT_ONCE_AIM = 40_000.0
"""Requests a second and process."""

SINGLE_SHARE = 20
"""One request in so many is enqueued by itself, as that takes longer."""

COROUTINES = 100
"""How many enqueue at once."""

CALLBACK = Webhook("https://billing.example.com/claude")


def requests(count: int) -> Iterator[dict[str, Any]]:
    """Yield requests of 1 to 2.4 kB, no two alike."""
    review = "The kettle boils quickly, is easy to clean, and its handle stays cool. "
    for number in range(count):
        content = f"Review {number}: {review * (13 + number % 19)}"
        message = {"role": "user", "content": content}
        yield {"model": "claude-haiku-4-5", "max_tokens": 64, "messages": [message]}


def run(redis_url: str, count: int) -> list[Row]:
    """Measure both ways into the inbox; the inbox is emptied before and after."""
    with redis.Redis.from_url(redis_url) as connection, Producer(redis_url, max_queued=0) as producer:
        producer.enqueue(next(requests(1)))
        rows = [
            _many(producer, connection, count),
            _one(producer, connection, count // SINGLE_SHARE),
            _at_once(redis_url, connection, count // SINGLE_SHARE * 2),
        ]
        connection.delete(INBOX, QUEUED)
    return rows


def _many(producer: Producer, connection: redis.Redis, count: int) -> Row:
    connection.delete(INBOX, QUEUED)
    seconds = _timed(lambda: producer.enqueue_many(requests(count), callback=CALLBACK))
    entries = _drained(connection)
    bare_seconds = _timed(lambda: _append_raw(connection, entries))
    return Row("enqueue_many", count, seconds, "packed XADD", bare_seconds, ENQUEUE_MANY_AIM)


def _one(producer: Producer, connection: redis.Redis, count: int) -> Row:
    connection.delete(INBOX, QUEUED)
    singles = list(requests(count))
    seconds = _timed(lambda: [producer.enqueue(single, callback=CALLBACK) for single in singles])
    entries = _drained(connection)
    bare_seconds = _timed(lambda: _append_raw(connection, entries))
    return Row("enqueue", count, seconds, "one XADD", bare_seconds, ENQUEUE_AIM)


def _at_once(redis_url: str, connection: redis.Redis, count: int) -> Row:
    """Enqueue one by one from many coroutines of one AsyncProducer."""
    connection.delete(INBOX, QUEUED)
    singles = requests(count)

    async def coroutine(producer: AsyncProducer) -> None:
        for single in singles:  # shared: each takes the next
            await producer.enqueue(single, callback=CALLBACK)

    async def enqueue() -> float:
        async with AsyncProducer(redis_url, max_queued=0) as producer:
            started = perf_counter()
            await asyncio.gather(*(coroutine(producer) for _ in range(COROUTINES)))
            return perf_counter() - started

    seconds = asyncio.run(enqueue())
    entries = _drained(connection)
    bare_seconds = _timed(lambda: _append_raw(connection, entries))
    stage = f"AsyncProducer.enqueue, {COROUTINES} coroutines"
    return Row(stage, count, seconds, "XADD of the same entries", bare_seconds, AT_ONCE_AIM)


def _timed(work: Callable[[], object]) -> float:
    started = perf_counter()
    work()
    return perf_counter() - started


def _drained(connection: redis.Redis) -> list[bytes]:
    stream: Any = connection.xrange(INBOX)
    connection.delete(INBOX, QUEUED)
    return [fields[ENTRY_FIELD] for _, fields in stream]


def _append_raw(connection: redis.Redis, entries: list[bytes]) -> None:
    for entry in entries:
        connection.xadd(INBOX, {ENTRY_FIELD: entry})
