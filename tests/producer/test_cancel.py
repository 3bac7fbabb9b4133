"""Canceling by a producer: a command in the inbox, behind the requests, however full it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import redis

from carpool import AsyncProducer, InvalidRequest, Producer, QueueFull, RedisUnavailable, Webhook, webhooks
from carpool.contract import (
    CANCEL_FIELD,
    ENTRY_FIELD,
    INBOX,
    MAX_CANCEL_IDS,
    Cancel,
    decode_cancel,
    decode_entry,
    mint_id,
)
from carpool.testing import InMemoryProducer

if TYPE_CHECKING:
    from tests.producer.conftest import HandWorker, LossyProxy

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def commands(worker: HandWorker) -> list[Cancel]:
    stream: Any = worker.redis.xrange(INBOX)
    return [decode_cancel(fields[CANCEL_FIELD]) for _, fields in stream if CANCEL_FIELD in fields]


def test_a_cancel_command_is_in_the_inbox_behind_the_requests_and_counts_as_none(
    producer: Producer, worker: HandWorker, params: dict[str, Any]
) -> None:
    # When
    request_id = producer.enqueue(params)
    producer.cancel(request_id, request_id)
    producer.cancel_all()

    # Then
    stream: Any = worker.redis.xrange(INBOX)
    assert [next(iter(fields)) for _, fields in stream] == [ENTRY_FIELD, CANCEL_FIELD, CANCEL_FIELD]
    assert [(command.client, command.ids) for command in commands(worker)] == [
        ("tests", [request_id]),
        ("tests", None),
    ]
    assert worker.queued() == 1


def test_what_follows_cancel_all_bears_a_later_time(
    producer: Producer, worker: HandWorker, params: dict[str, Any]
) -> None:
    # When
    for _ in range(20):
        producer.enqueue(params)
        producer.cancel_all()

    # Then each command means all requests before it in the stream, and none after it
    stream: Any = worker.redis.xrange(INBOX)
    times = [
        decode_cancel(fields[CANCEL_FIELD]).at
        if CANCEL_FIELD in fields
        else decode_entry(fields[ENTRY_FIELD]).enqueued_at[0]
        for _, fields in stream
    ]
    assert all(enqueued <= canceled for enqueued, canceled in zip(times[::2], times[1::2], strict=True))
    assert all(canceled < enqueued for canceled, enqueued in zip(times[1::2], times[2::2], strict=False))


def test_many_ids_travel_in_several_entries_and_none_in_none(producer: Producer, worker: HandWorker) -> None:
    ids = [mint_id("tests") for _ in range(MAX_CANCEL_IDS + 1)]

    producer.cancel()
    producer.cancel(*ids)

    assert [len(command.ids or ()) for command in commands(worker)] == [MAX_CANCEL_IDS, 1]
    assert [id_ for command in commands(worker) for id_ in command.ids or ()] == ids


def test_a_full_inbox_accepts_a_cancel_command(
    redis_url: str, worker: HandWorker, params: dict[str, Any]
) -> None:
    with Producer(redis_url, client="tests", max_queued=1) as producer:
        request_id = producer.enqueue(params)
        with pytest.raises(QueueFull):
            producer.enqueue(params)

        producer.cancel(request_id)

    assert len(commands(worker)) == 1


def test_what_is_no_id_cancels_nothing(producer: Producer, worker: HandWorker) -> None:
    with pytest.raises(InvalidRequest, match="request_id"):
        producer.cancel(mint_id("tests"), "invoice-42")
    assert commands(worker) == []


def test_a_redis_that_is_away_or_refuses_is_reported(redis_url: str) -> None:
    with Producer("redis://127.0.0.1:1/0") as away, pytest.raises(RedisUnavailable):
        away.cancel_all()
    with redis.Redis.from_url(redis_url) as server:
        server.set(INBOX, "not a stream")
    with Producer(redis_url) as refused, pytest.raises(RedisUnavailable, match="WRONGTYPE"):
        refused.cancel_all()


def test_a_cancel_command_whose_reply_was_lost_is_repeated(
    proxy: LossyProxy, proxy_url: str, worker: HandWorker, params: dict[str, Any]
) -> None:
    with Producer(proxy_url, client="tests") as producer:
        request_id = producer.enqueue(params)
        proxy.cut()
        producer.cancel(request_id)
    assert [command.ids for command in commands(worker)] == [[request_id]]


def test_an_event_loop_cancels_too(redis_url: str, worker: HandWorker) -> None:
    ids = [mint_id("tests") for _ in range(2)]

    async def cancel() -> None:
        async with AsyncProducer(redis_url, client="tests") as producer:
            await producer.cancel(*ids)
            await producer.cancel_all()
        async with AsyncProducer("redis://127.0.0.1:1/0") as away:
            with pytest.raises(RedisUnavailable):
                await away.cancel(*ids)

    asyncio.run(cancel())
    assert [command.ids for command in commands(worker)] == [ids, None]


def test_in_memory_what_is_canceled_ends_so_at_no_cost(params: dict[str, Any]) -> None:
    # Given an answered request, one that waits, and one that will come
    producer = InMemoryProducer(client="tests")
    done, waiting = producer.enqueue(params), producer.enqueue(params, callback=Webhook("https://a.example"))
    producer.answer(done, "Hello")
    coming = mint_id("tests", "key")

    # When
    for _ in range(2):
        producer.cancel(done, waiting, coming)
    producer.enqueue(params, idempotency_key="key")

    # Then
    assert producer.wait(done).text == "Hello"
    for request_id in (waiting, coming):
        result = producer.wait(request_id)
        assert (result.state, result.outcome, result.usage, result.cost) == (
            "canceled",
            "canceled",
            None,
            None,
        )
        assert result.message is None
        assert result.error
        assert result.error.type == "canceled"
    body, headers = producer.webhook(waiting, SECRET)
    assert webhooks.verify(body, headers, SECRET).state == "canceled"
    assert b'"request.canceled"' in body


def test_in_memory_all_that_waits_is_canceled(params: dict[str, Any]) -> None:
    producer = InMemoryProducer()
    before = producer.enqueue(params)
    producer.cancel_all()
    after = producer.enqueue(params)
    producer.answer(after, "Hello")
    assert [producer.wait(request_id).state for request_id in (before, after)] == ["canceled", "completed"]
