"""Producers behind Sentinels: they find the primary, also after a failover, which loses nothing that replicas have."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.conftest import free_port
from tests.fixtures.inbox import waiting_in
from tests.fixtures.sentinels import Watched, accepted_through_a_failover, watched

from carpool import AsyncProducer, CarpoolError, InvalidSetting, NotDurable, Producer, RedisUnavailable
from carpool.redis_url import connect, parse_sentinel_url


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Watched]:
    with watched(tmp_path) as found:
        yield found


def ids_in(servers: Watched) -> set[str]:
    """Return the ids of the requests that the primary of today has."""
    with redis.Redis(port=servers.primary()) as server:
        return {one.id for one in waiting_in(server)}


def test_what_replicas_have_outlives_a_failover(servers: Watched, params: dict[str, Any]) -> None:
    with Producer(servers.url, durable_replicas=1) as producer:
        accepted = accepted_through_a_failover(servers, lambda: producer.enqueue(params), within=60)
    assert set(accepted) <= ids_in(servers)


def test_without_enough_replicas_nothing_is_enqueued(servers: Watched, params: dict[str, Any]) -> None:
    servers.kill_primary()
    with Producer(servers.url, durable_replicas=1) as producer:
        with pytest.raises(NotDurable, match="0 of 1") as failure:
            producer.enqueue(params)
        assert (len(failure.value.accepted), len(failure.value.unknown)) == (0, 0)
        with pytest.raises(NotDurable, match="0 of 1") as failure:
            producer.cancel_all()
    assert ids_in(servers) == set()


def test_an_event_loop_finds_the_primary_too(servers: Watched, params: dict[str, Any]) -> None:
    async def enqueue() -> list[str]:
        async with AsyncProducer(servers.url, durable_replicas=1, key_prefix="blue:") as producer:
            return [*await producer.enqueue_many([params] * 3)]

    ids = asyncio.run(enqueue())
    with connect(servers.url, "blue:") as server:
        assert {one.id for one in waiting_in(server)} == set(ids)


def test_one_sentinel_that_answers_is_enough(servers: Watched, params: dict[str, Any]) -> None:
    hosts = f"127.0.0.1:{free_port()},127.0.0.1:{servers.sentinels[0]}"
    with Producer(f"sentinel://{hosts}/inbox") as producer:
        assert producer.enqueue(params) in ids_in(servers)
    with Producer(f"sentinel://{hosts}/another") as producer, pytest.raises(CarpoolError, match="'another'"):
        producer.enqueue(params)


def test_what_is_said_when_none_answers_has_no_password(params: dict[str, Any]) -> None:
    async def enqueue(url: str) -> None:
        async with AsyncProducer(url) as producer:
            await producer.enqueue(params)

    host = f"127.0.0.1:{free_port()}"
    url = f"sentinel://user:secret-1@{host}/inbox?sentinel_password=secret-2"
    with Producer(url) as producer, pytest.raises(RedisUnavailable) as failure:
        producer.enqueue(params)
    with pytest.raises(RedisUnavailable) as in_loop:
        asyncio.run(enqueue(url))
    for said in (str(failure.value), str(in_loop.value)):
        assert f"no Sentinel names a primary of 'inbox'; asked were {host}" in said
        assert "secret" not in said


def test_a_url_says_who_asks_and_for_what() -> None:
    read = parse_sentinel_url(
        "sentinel://us%40er:p%2Fa@a,[::1]:26380/my%2Finbox/3?sentinel_password=x&socket_timeout=4"
    )
    assert read.sentinels == (("a", 26379), ("::1", 26380))
    assert (read.service, read.sentinel_options) == ("my/inbox", {"password": "x"})
    assert read.options == {"username": "us@er", "password": "p/a", "db": 3, "socket_timeout": 4.0}


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sentinel://a:1", "/SERVICE"),
        ("sentinel://a:1/", "/SERVICE"),
        ("sentinel://a:1,/inbox", "/SERVICE"),
        ("sentinel:///inbox", "/SERVICE"),
        ("sentinel://:1/inbox", "without a host"),
        ("sentinel://a:x/inbox", "'x'"),
        ("sentinel://a:1/inbox/x", "no number"),
        ("sentinel://a:1/inbox/0?retries=3", "'retries'"),
    ],
)
def test_a_url_without_sense_is_refused_in_one_sentence(url: str, reason: str) -> None:
    with pytest.raises(InvalidSetting, match=reason):
        Producer(url)


@pytest.mark.parametrize("replicas", [-1, 17, True, 1.5])
def test_a_number_of_replicas_that_is_none_is_refused(replicas: Any) -> None:
    with pytest.raises(InvalidSetting, match="durable_replicas"):
        Producer(durable_replicas=replicas)
