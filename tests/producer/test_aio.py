"""The producer for asyncio, on a real event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest
from tests.fixtures.waiting import until

from carpool import (
    AsyncProducer,
    InvalidRequest,
    QueueFull,
    RedisUnavailable,
    RequestIds,
    SourceFailed,
    WaitTimeout,
)
from carpool.contract import mint_id

if TYPE_CHECKING:
    from tests.producer.conftest import HandWorker


def test_one_and_many_arrive_in_order(redis_url: str, worker: HandWorker, params: dict[str, Any]) -> None:
    async def rows() -> AsyncIterator[dict[str, Any]]:
        for _ in range(450):
            yield params

    async def enqueue() -> list[str]:
        async with AsyncProducer(redis_url, client="tests") as producer:
            one = await producer.enqueue(params, metadata={"a": 1}, priority=9, max_wait=60)
            return [one, *await producer.enqueue_many(rows()), *await producer.enqueue_many([params] * 50)]

    ids = asyncio.run(enqueue())
    assert [envelope.id for envelope in worker.envelopes()] == ids
    assert worker.queued() == len(ids) == 501
    first, second = worker.envelopes()[:2]
    assert (first.priority, first.submit_by) == (9, first.enqueued_at + 60_000)
    assert (second.priority, second.submit_by) == (0, None)


def test_what_many_coroutines_enqueue_at_once_is_appended_together(
    redis_url: str, worker: HandWorker, params: dict[str, Any]
) -> None:
    # Given more requests than one entry holds, each with options of its own
    async def enqueue() -> list[str]:
        async with AsyncProducer(redis_url, client="tests") as producer:
            return await asyncio.gather(*(producer.enqueue(params, metadata=n) for n in range(450)))

    # When
    ids = asyncio.run(enqueue())
    # Then each caller has the id of its own request, and the requests share entries
    assert {envelope.id: envelope.metadata for envelope in worker.envelopes()} == {
        id_: str(n).encode() for n, id_ in enumerate(ids)
    }
    assert len(worker.entries()) == 3
    assert worker.queued() == 450


def test_an_invalid_request_among_many_fails_alone(
    redis_url: str, worker: HandWorker, params: dict[str, Any]
) -> None:
    async def enqueue() -> list[str | BaseException]:
        async with AsyncProducer(redis_url) as producer:
            calls = (producer.enqueue(one) for one in (params, {}, params))
            return await asyncio.gather(*calls, return_exceptions=True)

    first, second, third = asyncio.run(enqueue())
    assert isinstance(second, InvalidRequest)
    assert [envelope.id for envelope in worker.envelopes()] == [first, third]


def test_each_of_many_coroutines_learns_what_became_of_its_own(
    params: dict[str, Any], redis_url: str
) -> None:
    async def enqueue(url: str, limit: int) -> list[str | BaseException]:
        async with AsyncProducer(url, max_queued=limit) as producer:
            calls = [producer.enqueue(params, idempotency_key=str(n)) for n in range(3)]
            return await asyncio.gather(*calls, return_exceptions=True)

    # Where Redis is away, each error names its own request as unknown
    lost = asyncio.run(enqueue("redis://127.0.0.1:1/0", 0))
    unknown = [list(error.unknown) for error in lost if isinstance(error, RedisUnavailable)]
    assert unknown == [[mint_id("default", str(n))] for n in range(3)]
    assert len({id(error) for error in lost}) == 3
    # Where the inbox is full, none of them is enqueued
    full = asyncio.run(enqueue(redis_url, 2))
    assert [type(error) for error in full] == [QueueFull] * 3
    assert all(not error.accepted and not error.unknown for error in full if isinstance(error, QueueFull))


def test_a_coroutine_that_is_canceled_before_its_group_leaves_enqueues_nothing(
    redis_url: str, worker: HandWorker, params: dict[str, Any]
) -> None:
    async def enqueue() -> str:
        async with AsyncProducer(redis_url) as producer:
            canceled, kept = (asyncio.create_task(producer.enqueue(params)) for _ in range(2))
            await asyncio.sleep(0)  # both wait for their group, which has not left
            canceled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await canceled
            return await kept

    kept = asyncio.run(enqueue())
    assert [envelope.id for envelope in worker.envelopes()] == [kept]


def test_errors_list_what_was_accepted(redis_url: str, params: dict[str, Any]) -> None:
    async def broken_rows() -> AsyncIterator[dict[str, Any]]:
        yield params
        raise OSError("gone")

    async def enqueue() -> None:
        async with AsyncProducer(redis_url, max_queued=6) as producer:
            with pytest.raises(InvalidRequest, match="request 2: model") as refusal:
                await producer.enqueue_many([params, params, {}])
            assert len(refusal.value.accepted) == 2
            with pytest.raises(SourceFailed) as failure:
                await producer.enqueue_many(broken_rows())
            assert isinstance(failure.value.accepted, RequestIds)
            with pytest.raises(QueueFull):
                await producer.enqueue_many([params] * 10)
        async with AsyncProducer("redis://127.0.0.1:1/0") as away:
            with pytest.raises(RedisUnavailable) as unavailable:
                await away.enqueue(params)
            assert len(unavailable.value.unknown) == 1

    asyncio.run(enqueue())


def test_answers_are_waited_for(redis_url: str, worker: HandWorker) -> None:
    ids = [mint_id("tests") for _ in range(2)]

    async def collect(producer: AsyncProducer) -> list[str]:
        async with aclosing(producer.as_completed(ids, timeout=20)) as results:
            return [result.id async for result in results]

    async def wait() -> None:
        async with AsyncProducer(redis_url, client="tests") as producer:
            collecting = asyncio.create_task(collect(producer))
            wait = await asyncio.to_thread(worker.next_wait)
            worker.push(wait, ids[1], ids[0])
            assert await collecting == [ids[1], ids[0]]
            assert not worker.redis.exists(wait.reply_to)
            with pytest.raises(WaitTimeout):
                await producer.wait(ids[0], timeout=0.05)

    asyncio.run(wait())


def test_a_wait_that_is_cancelled_leaves_nothing_behind(redis_url: str, worker: HandWorker) -> None:
    async def wait() -> None:
        async with AsyncProducer(redis_url, client="tests") as producer:
            waiting = asyncio.create_task(producer.wait(mint_id("tests")))
            reply_to = (await asyncio.to_thread(worker.next_wait)).reply_to
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert not worker.redis.exists(reply_to)

    asyncio.run(wait())


def test_a_producer_works_in_one_event_loop_after_the_other(
    redis_url: str, worker: HandWorker, params: dict[str, Any]
) -> None:
    # Given a producer of a module
    producer = AsyncProducer(redis_url, client="tests")

    async def answered() -> str:
        id_ = await producer.enqueue(params)
        waiting = asyncio.create_task(producer.wait(id_, timeout=20))
        worker.push(await asyncio.to_thread(worker.next_wait), id_)
        return (await waiting).id

    def connections() -> int:
        database = str(worker.redis.connection_pool.connection_kwargs["db"])
        return [one["db"] for one in worker.redis.client_list()].count(database)

    # When
    ids = [asyncio.run(answered())]
    before = connections()
    ids += [asyncio.run(answered()) for _ in range(2)]

    # Then: and the connections of each loop were closed with it
    assert [envelope.id for envelope in worker.envelopes()] == ids
    until(lambda: connections() <= before)


def test_a_producer_works_in_several_event_loops_at_once(
    redis_url: str, worker: HandWorker, params: dict[str, Any]
) -> None:
    producer = AsyncProducer(redis_url, client="tests")

    async def enqueue() -> list[str]:
        ids = await asyncio.gather(*(producer.enqueue(params) for _ in range(20)))
        await producer.close()
        return [*ids, await producer.enqueue(params)]

    with ThreadPoolExecutor(4) as threads:
        runs = [threads.submit(asyncio.run, enqueue()) for _ in range(4)]
    ids = [id_ for run in runs for id_ in run.result()]
    assert sorted(envelope.id for envelope in worker.envelopes()) == sorted(ids)


def test_waits_that_a_loop_ends_with_disturb_no_other(redis_url: str, worker: HandWorker) -> None:
    producer = AsyncProducer(redis_url, client="tests")
    id_ = mint_id("tests")
    left: list[Any] = []

    async def leave_a_wait_open() -> None:
        results = producer.as_completed([mint_id("tests"), id_], timeout=20)
        left.append(results)
        first = asyncio.create_task(anext(results))
        worker.push(await asyncio.to_thread(worker.next_wait), id_)
        assert (await first).id == id_

    async def wait() -> str:
        waiting = asyncio.create_task(producer.wait(id_, timeout=20))
        worker.push(await asyncio.to_thread(worker.next_wait), id_)
        return (await waiting).id

    asyncio.run(leave_a_wait_open())
    assert asyncio.run(wait()) == id_
