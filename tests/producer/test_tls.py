"""Nothing that a producer has to say goes to a Redis that can't prove who it is, whichever way it is said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import redis
import trustme
from tests.fixtures.tls import authority, tls_port

from carpool import AsyncProducer, Producer, RedisUnavailable, RequestIds
from carpool.contract import mint_id

__all__ = ["authority", "tls_port"]

PARAMS = {"model": "claude-haiku-4-5", "max_tokens": 5, "messages": [{"role": "user", "content": "SECRET"}]}
ID = mint_id("tests")

WAYS: dict[str, Callable[[Producer], Any]] = {
    "enqueue": lambda producer: producer.enqueue(PARAMS),
    "enqueue for a reply": lambda producer: producer.enqueue(PARAMS, reply=True),
    "enqueue_many": lambda producer: producer.enqueue_many([PARAMS] * 3),
    "cancel": lambda producer: producer.cancel(ID),
    "cancel_all": lambda producer: producer.cancel_all(),
    "wait": lambda producer: producer.wait(ID, timeout=5),
    "as_completed": lambda producer: list(producer.as_completed([ID], timeout=5)),
}


async def _completed(producer: AsyncProducer) -> None:
    async for _ in producer.as_completed([ID], timeout=5):
        pass


IN_A_LOOP: dict[str, Callable[[AsyncProducer], Any]] = {
    "enqueue": lambda producer: producer.enqueue(PARAMS),
    "enqueue for a reply": lambda producer: producer.enqueue(PARAMS, reply=True),
    "enqueue_many": lambda producer: producer.enqueue_many([PARAMS] * 3),
    "cancel": lambda producer: producer.cancel(ID),
    "cancel_all": lambda producer: producer.cancel_all(),
    "wait": lambda producer: producer.wait(ID, timeout=5),
    "as_completed": _completed,
}


@pytest.fixture(params=["by nobody that is trusted", "for another name"])
def untrusted(request: pytest.FixtureRequest, tls_port: int, authority: tuple[trustme.CA, str]) -> str:
    """The URL of a Redis whose certificate is by nobody that is trusted, or for another name."""
    if request.param == "for another name":
        return f"rediss://user:password@127.0.0.1:{tls_port}/0?ssl_ca_certs={authority[1]}"
    return f"rediss://user:password@localhost:{tls_port}/0"


def assert_it_says_so_and_nothing_was_said(refusal: RedisUnavailable, redis_url: str) -> None:
    assert "certificate" in str(refusal).lower()
    assert "password" not in str(refusal)
    with redis.Redis.from_url(redis_url) as server:
        assert server.dbsize() == 0


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_a_producer_refuses_it(untrusted: str, redis_url: str, way: str, durable: bool) -> None:
    producer = Producer(untrusted, client="tests", durable=durable)
    with producer, pytest.raises(RedisUnavailable) as refusal:
        WAYS[way](producer)

    assert_it_says_so_and_nothing_was_said(refusal.value, redis_url)


@pytest.mark.parametrize("way", IN_A_LOOP)
def test_an_event_loop_refuses_it(untrusted: str, redis_url: str, way: str) -> None:
    async def say() -> None:
        async with AsyncProducer(untrusted, client="tests") as producer:
            await IN_A_LOOP[way](producer)

    with pytest.raises(RedisUnavailable) as refusal:
        asyncio.run(say())

    assert_it_says_so_and_nothing_was_said(refusal.value, redis_url)


def test_behind_a_trusted_certificate_all_ways_lead_to_the_inbox(
    tls_port: int, authority: tuple[trustme.CA, str], redis_url: str
) -> None:
    database = redis_url.rpartition("/")[2]
    url = f"rediss://localhost:{tls_port}/{database}?ssl_ca_certs={authority[1]}"

    async def in_a_loop() -> list[str]:
        async with AsyncProducer(url, client="tests") as producer:
            return [await producer.enqueue(PARAMS), *await producer.enqueue_many([PARAMS])]

    with Producer(url, client="tests") as producer:
        ids: RequestIds = producer.enqueue_many([PARAMS] * 2)
        all_ = [*ids, producer.enqueue(PARAMS), *asyncio.run(in_a_loop())]

    assert len(set(all_)) == 5
    with redis.Redis.from_url(redis_url) as server:
        assert int(server.get("carpool:{0}:queued") or 0) == 5
