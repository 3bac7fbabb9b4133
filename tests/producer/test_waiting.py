"""Waiting for answers: with a worker played by hand, and by a clock that is given."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from carpool import (
    InvalidRequest,
    Producer,
    RedisUnavailable,
    RequestForgotten,
    RequestUnknown,
    WaitTimeout,
)
from carpool.contract import WAITS, Wait, decode_wait, mint_id, to_json
from carpool.not_there import NOT_THERE, NotThere, encode_not_there
from carpool.options import Options
from carpool.waiting import MAX_OUTSTANDING, WAIT_IDS, ReplyWaiter

if TYPE_CHECKING:
    from tests.producer.conftest import HandWorker, LossyProxy


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


def ids_of(count: int) -> list[str]:
    return [mint_id("tests") for _ in range(count)]


def a_waiter(ids: list[str], timeout: float | None = None) -> ReplyWaiter:
    return ReplyWaiter(Options.resolve(None, "tests", 0, False), ids, timeout, now=0.0)


def asked_for(waiter: ReplyWaiter, now: float) -> list[Wait]:
    return [decode_wait(item) for item in waiter.commands(now)[0][2:] if isinstance(item, bytes)]


def reply(*request_ids: str) -> list[object]:
    fields = {"client": "tests", "model": "m", "state": "completed", "outcome": "succeeded"}
    times = {"enqueued_at": "2026-08-01T12:00:00Z", "finished_at": "2026-08-01T12:00:00Z"}
    return [[b"carpool:reply:x", [to_json({"id": one, **fields, **times}) for one in request_ids]]]


def test_wait_returns_the_answer_that_the_worker_pushes(
    producer: Producer, worker: HandWorker, pool: ThreadPoolExecutor
) -> None:
    # Given
    (request_id,) = ids_of(1)
    result = pool.submit(producer.wait, request_id, 20)
    # When
    wait = worker.next_wait()
    worker.push(wait, request_id)
    # Then
    assert (wait.client, wait.ids) == ("tests", [request_id])
    assert result.result().id == request_id
    assert not worker.redis.exists(wait.reply_to)


def test_several_waiters_for_one_request_all_get_its_answer(
    producer: Producer, worker: HandWorker, pool: ThreadPoolExecutor
) -> None:
    (request_id,) = ids_of(1)
    results = [pool.submit(producer.wait, request_id, 20) for _ in range(3)]
    for wait in [worker.next_wait() for _ in results]:
        worker.push(wait, request_id)
    assert {result.result().id for result in results} == {request_id}


def test_as_completed_yields_each_answer_once_in_the_order_they_come(
    producer: Producer, worker: HandWorker, pool: ThreadPoolExecutor
) -> None:
    # Given
    ids = ids_of(3)
    results = pool.submit(lambda: [result.id for result in producer.as_completed([*ids, ids[0]], 20)])
    # When
    wait = worker.next_wait()
    worker.push(wait, ids[2], ids[2], *ids_of(1), ids[0], ids[1])
    # Then
    assert results.result() == [ids[2], ids[0], ids[1]]


def test_a_wait_that_is_over_leaves_nothing_behind(producer: Producer, worker: HandWorker) -> None:
    ids = ids_of(2)
    with pytest.raises(WaitTimeout) as timeout:
        list(producer.as_completed(ids, timeout=0.05))
    assert sorted(timeout.value.outstanding) == sorted(ids)
    assert 0 < worker.redis.ttl(WAITS) <= 120
    assert not worker.redis.keys("carpool:reply:*")


def test_a_wait_outlives_a_broken_connection(
    proxy: LossyProxy, proxy_url: str, worker: HandWorker, pool: ThreadPoolExecutor
) -> None:
    # Given
    ids = ids_of(2)
    with Producer(proxy_url, client="tests") as producer:
        results = pool.submit(lambda: {result.id for result in producer.as_completed(ids, 20)})
        worker.push(worker.next_wait(), ids[0])
        # When
        proxy.cut()
        # Then
        worker.push(worker.next_wait(), *ids)
        assert results.result() == set(ids)


def test_a_redis_that_is_away_at_the_start_is_reported_at_once() -> None:
    with Producer("redis://127.0.0.1:1/0") as producer, pytest.raises(RedisUnavailable):
        producer.wait(ids_of(1)[0])


def test_an_id_that_is_none_is_refused(producer: Producer) -> None:
    with pytest.raises(InvalidRequest, match="request_id: must be 32 hexadecimal digits"):
        producer.as_completed(["invoice-42"])


def test_a_wait_is_repeated_for_what_is_outstanding_after_15_30_and_60_seconds() -> None:
    # Given
    ids = ids_of(3)
    waiter = a_waiter(ids)
    assert asked_for(waiter, 0.0)[0].ids == ids
    waiter.receive(reply(ids[1]))
    # When
    asked = [second for second in range(1, 200) if waiter.commands(float(second))]
    # Then
    assert asked == [15, 45, 105, 165]
    waiter.repeat_all(200.0)
    assert [wait.ids for wait in asked_for(waiter, 200.0)] == [[ids[0], ids[2]]]


def test_no_more_than_the_limit_is_outstanding_and_the_rest_follows() -> None:
    # Given
    ids = ids_of(MAX_OUTSTANDING + 1500)
    waiter = a_waiter(ids)
    # When
    first = asked_for(waiter, 0.0)
    waiter.receive(reply(*ids[: WAIT_IDS - 1]))
    nothing = waiter.commands(1.0)
    waiter.receive(reply(ids[WAIT_IDS]))
    second = asked_for(waiter, 1.0)
    # Then
    assert [one for wait in first for one in wait.ids] == ids[:MAX_OUTSTANDING]
    assert nothing == []
    assert [one for wait in second for one in wait.ids] == ids[MAX_OUTSTANDING:][:WAIT_IDS]


def test_a_read_never_blocks_for_longer_than_the_timeout_or_forever() -> None:
    waiter = a_waiter(ids_of(1), timeout=3.0)
    waiter.commands(0.0)
    assert waiter.read_command(0.0)[1] == 3.0
    assert waiter.read_command(2.9999)[1] == 0.001
    with pytest.raises(WaitTimeout, match="no answer within 3 s for 1 request"):
        waiter.read_command(3.0)


def test_a_wait_gives_up_in_time_while_redis_is_away(
    proxy: LossyProxy, proxy_url: str, worker: HandWorker, pool: ThreadPoolExecutor
) -> None:
    # Given
    ids = ids_of(2)
    with Producer(proxy_url, client="tests") as producer:
        results = producer.as_completed(ids, timeout=5.0)
        pool.submit(lambda: worker.push(worker.next_wait(), ids[0]))
        assert next(results).id == ids[0]
        # When
        proxy.close()
        started = time.monotonic()
        # Then
        with pytest.raises(WaitTimeout):
            next(results)
        assert time.monotonic() - started < 15


def not_there(unknown: list[str], forgotten: list[str]) -> list[Any]:
    return [[b"carpool:reply:1", [NOT_THERE + encode_not_there(NotThere(unknown, forgotten))]]]


def test_a_wait_tells_how_long_ago_it_began() -> None:
    waiter = a_waiter(ids_of(1))
    assert [asked_for(waiter, second)[0].age for second in (0.0, 15.0)] == [0, 15_000]


def test_what_nobody_enqueued_is_an_error_once_all_else_has_come() -> None:
    ids = ids_of(4)
    waiter = a_waiter(ids)
    waiter.commands(0.0)
    waiter.receive(not_there([ids[0], ids[1]], [ids[2]]))
    assert (list(waiter.results()), waiter.done) == ([], False)

    waiter.receive(reply(ids[3]))
    results = waiter.results()

    assert next(results).id == ids[3]
    with pytest.raises(
        RequestUnknown, match=rf"client tests has enqueued no request {ids[0]} \(nor 1 others\)"
    ):
        next(results)
    assert waiter.done


def test_what_is_past_its_retention_is_an_error_of_its_own() -> None:
    [id_] = ids_of(1)
    waiter = a_waiter([id_])
    waiter.commands(0.0)
    waiter.receive(not_there([], [id_]))
    with pytest.raises(RequestForgotten, match=f"{id_} is no longer kept: its retention is over"):
        list(waiter.results())
