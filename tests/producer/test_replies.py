"""Answers that are pushed to their producer: read with no question asked, and asked for where a push was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from tests.fixtures.waiting import until

from carpool import AsyncProducer, InvalidAnswer, InvalidRequest, Producer, Request, waiting
from carpool import reply_list as reply_lists
from carpool.contract import REPLIES, WAITS, PackedAnswers, Wait, decode_wait, encode_answers, mint_id
from carpool.options import Options
from carpool.segments import pack
from carpool.waiting import GRACE, MAX_OUTSTANDING, READ_PACKED, REPEAT_AFTER, WAIT_IDS, ReplyWaiter

if TYPE_CHECKING:
    from tests.producer.conftest import HandWorker, LossyProxy

MANY = 1_000


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


@pytest.fixture
def no_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, nothing is asked for."""
    monkeypatch.setattr(waiting, "GRACE", 1_000.0)


def answers(ids: Sequence[str], text: str = "Positive.") -> bytes:
    result = b'{"type":"succeeded","message":{"content":[{"type":"text","text":"%b"}]}}' % text.encode()
    return encode_answers(
        PackedAnswers(
            client="tests",
            model="claude-haiku-4-5",
            batch_id="msgbatch_1",
            finished_at=1_790_000_000_000,
            ids=bytes.fromhex("".join(ids)),
            results=pack([result] * len(ids)),
            enqueued_at=[1_780_000_000_000] * len(ids),
        )
    )


def a_list(worker: HandWorker) -> str:
    """The list that the one entry in the inbox names."""
    [reply_to] = {envelope.reply_to for envelope in worker.envelopes()}
    assert reply_to is not None
    return reply_to


def ids_of(count: int) -> list[str]:
    return [mint_id("tests") for _ in range(count)]


def a_waiter(ids: Sequence[str]) -> ReplyWaiter:
    options = Options.resolve(None, "tests", 0, False)
    options.check({"reply": True})
    waiter = ReplyWaiter(options, ids, None, now=0.0)
    waiter.join()
    return waiter


def asked_for(waiter: ReplyWaiter, now: float) -> list[str]:
    """The ids that are asked for then."""
    commands = waiter.commands(now)
    waits = [decode_wait(item) for item in (commands[0][2:] if commands else ()) if isinstance(item, bytes)]
    return [id_ for wait in waits for id_ in wait.ids]


def read(waiter: ReplyWaiter, *items: bytes) -> list[str]:
    """The ids of the results in some items."""
    waiter.receive([[b"a list", list(items)]])
    return [result.id for result in waiter.results()]


def test_only_what_is_enqueued_for_a_reply_names_the_list_of_its_producer(
    producer: Producer, redis_url: str, worker: HandWorker, params: dict[str, Any]
) -> None:
    # When
    producer.enqueue(params)
    producer.enqueue(params, reply=True)
    producer.enqueue_many([params, Request(params, priority=1)], reply=True)
    with Producer(redis_url, client="tests") as other:
        other.enqueue(params, reply=True)
    # Then
    plain, *mine, others = (envelope.reply_to for envelope in worker.envelopes())
    assert plain is None
    assert mine == [mine[0]] * 3
    assert mine[0] != others
    assert str(mine[0]).startswith(REPLIES)
    with pytest.raises(InvalidRequest, match="reply: must be True or False"):
        producer.enqueue(params, reply="yes")  # type: ignore[arg-type]


@pytest.mark.usefixtures("no_questions")
def test_a_pushed_answer_is_returned_and_nothing_was_asked(
    producer: Producer, worker: HandWorker, params: dict[str, Any]
) -> None:
    # Given
    ids = producer.enqueue_many([params] * MANY, reply=True)
    reply_to = a_list(worker)
    # When the answers come in another order, with some of somebody who doesn't wait
    for start in range(0, MANY, 100):
        worker.redis.rpush(reply_to, answers([*ids[start : start + 100][::-1], *ids_of(3)]))
    results = list(producer.as_completed(ids, timeout=20))
    # Then
    assert {result.id for result in results} == set(ids)
    assert len(results) == MANY
    assert results[0].text == "Positive."
    assert not worker.redis.exists(WAITS)
    assert not worker.redis.exists(reply_to)


def test_an_event_loop_reads_pushed_answers_too(
    redis_url: str, worker: HandWorker, params: dict[str, Any]
) -> None:
    async def wait() -> list[str]:
        async with AsyncProducer(redis_url, client="tests") as producer:
            ids = await asyncio.gather(*(producer.enqueue(params, reply=True) for _ in range(120)))
            waits = asyncio.gather(*(producer.wait(id_, timeout=20) for id_ in ids))
            await asyncio.sleep(0)
            worker.redis.rpush(a_list(worker), answers(ids[:70]), answers(ids[70:]))
            assert [result.id for result in await waits] == list(ids)
            return list(ids)

    assert len(asyncio.run(wait())) == 120  # more than the connections that redis-py would make


@pytest.mark.usefixtures("no_questions")
def test_a_wait_hands_over_what_another_one_wants(
    producer: Producer, worker: HandWorker, params: dict[str, Any], pool: ThreadPoolExecutor
) -> None:
    # Given several waits, of which one has the connection that is served first
    ids = producer.enqueue_many([params] * 3, reply=True)
    results = [pool.submit(producer.wait, id_, 20) for id_ in ids]
    until(lambda: worker.redis.info("clients")["blocked_clients"] == 3)
    # When all answers come at once
    worker.redis.rpush(a_list(worker), answers(ids))
    # Then
    assert [result.result().id for result in results] == list(ids)
    assert not worker.redis.exists(WAITS)


@pytest.mark.usefixtures("no_questions")
def test_what_was_read_for_another_wait_is_kept_for_it(
    producer: Producer, worker: HandWorker, params: dict[str, Any]
) -> None:
    # Given
    ids = producer.enqueue_many([params] * 4, reply=True)
    worker.redis.rpush(a_list(worker), answers(ids))
    # When one waits for one after the other, and once stops early
    assert producer.wait(ids[1], timeout=20).id == ids[1]
    for result in producer.as_completed(ids[2:], timeout=20):
        assert result.id == ids[2]
        break
    # Then the rest is still there
    assert producer.wait(ids[3], timeout=20).id == ids[3]
    assert producer.wait(ids[0], timeout=20).id == ids[0]
    assert not worker.redis.exists(WAITS)


def test_what_is_kept_is_bounded_and_then_waits_ask_at_once(
    producer: Producer, worker: HandWorker, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given answers that nobody waits for, more than are kept
    monkeypatch.setattr(reply_lists, "KEPT_BYTES", 1_000)
    ids = producer.enqueue_many([params] * 3, reply=True)
    worker.redis.rpush(a_list(worker), answers(ids, text="x" * 600))
    assert producer.wait(ids[0], timeout=20).id == ids[0]
    # Then the newest of them is there, and the oldest is asked for
    assert producer.wait(ids[2], timeout=20).id == ids[2]
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(producer.wait, ids[1], 20)
        wait = worker.next_wait()
        assert wait.ids == [ids[1]]
        worker.push(wait, ids[1])
        assert result.result().id == ids[1]


def test_a_producer_that_is_closed_leaves_no_list_behind(
    producer: Producer, redis_url: str, worker: HandWorker, params: dict[str, Any]
) -> None:
    # Given
    ids = producer.enqueue_many([params] * 2, reply=True)
    worker.redis.rpush(a_list(worker), answers(ids))
    # When
    producer.close()
    # Then
    assert not worker.redis.keys(REPLIES + "*")
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(producer.wait, ids[1], 20)
        worker.push(worker.next_wait(), ids[1])
        assert result.result().id == ids[1]


def test_a_lost_list_is_made_up_for_by_a_wait_after_a_grace() -> None:
    # Given
    ids = ids_of(3)
    waiter = a_waiter(ids)
    assert asked_for(waiter, 0.0) == []
    assert waiter.read_command(0.0)[1] == GRACE
    assert read(waiter, answers(ids[1:2])) == [ids[1]]
    # When no other answer comes, then they are asked for, and again later
    asked = {now: asked_for(waiter, float(now)) for now in range(1, 60)}
    assert {now for now, wanted in asked.items() if wanted} == {5, 20, 50}
    assert asked[5] == [ids[0], ids[2]]


def test_a_wait_without_pushed_answers_asks_at_once() -> None:
    waiter = ReplyWaiter(Options.resolve(None, "tests", 0, False), ids_of(2), None, now=0.0)
    assert len(asked_for(waiter, 0.0)) == 2
    assert waiter.read_command(0.0)[2:4] == (1, waiter.reply_to)


def test_a_broken_connection_may_have_lost_answers_so_they_are_asked_for() -> None:
    waiter = a_waiter(ids := ids_of(2))
    waiter.repeat_all(1.0)
    assert asked_for(waiter, 1.0) == ids


def test_pushed_answers_make_no_room_for_more_questions_until_a_while_later() -> None:
    # Given a long wait that has asked for as much as it may at a time
    ids = ids_of(2 * MAX_OUTSTANDING)
    waiter = a_waiter(ids)
    assert asked_for(waiter, GRACE) == ids[:MAX_OUTSTANDING]
    # When these are pushed
    for start in range(0, MAX_OUTSTANDING, 200):
        read(waiter, answers(ids[start : start + 200]))
    # Then the next are asked for only when they are late
    late = GRACE + REPEAT_AFTER[0]
    assert asked_for(waiter, late - 0.1) == []
    assert asked_for(waiter, late) == ids[MAX_OUTSTANDING:]


def test_where_answers_come_only_because_they_were_asked_for_the_next_are_asked_for_at_once(
    worker: HandWorker,
) -> None:
    ids = ids_of(MAX_OUTSTANDING + WAIT_IDS)
    waiter = a_waiter(ids)
    asked_for(waiter, GRACE)
    worker.push(Wait("tests", "carpool:reply:x", []), *ids[:WAIT_IDS])
    items: Any = worker.redis.lrange("carpool:reply:x", 0, -1)
    assert read(waiter, *items) == ids[:WAIT_IDS]
    assert asked_for(waiter, GRACE + 0.1) == ids[MAX_OUTSTANDING:]


def test_a_short_wait_reads_one_item_and_a_long_one_several() -> None:
    assert a_waiter(ids_of(200)).read_command(0.0)[-1] == 1
    assert a_waiter(ids_of(201)).read_command(0.0)[-1] == READ_PACKED


def test_an_answer_that_came_twice_is_returned_once(worker: HandWorker) -> None:
    waiter = a_waiter(ids := ids_of(2))
    assert read(waiter, answers(ids), answers(ids[::-1]), waiting.WAKE_UP) == ids
    assert waiter.done


def test_what_is_no_answer_is_refused() -> None:
    with pytest.raises(InvalidAnswer):
        a_waiter(ids_of(1)).receive([[b"a list", [b"nonsense"]]])


def test_a_push_that_is_lost_on_its_way_is_asked_for(
    proxy: LossyProxy, proxy_url: str, worker: HandWorker, params: dict[str, Any]
) -> None:
    with Producer(proxy_url, client="tests") as producer, ThreadPoolExecutor(1) as pool:
        request_id = producer.enqueue(params, reply=True)
        result = pool.submit(producer.wait, request_id, 20)
        until(lambda: worker.redis.info("clients")["blocked_clients"] == 1)
        proxy.cut()
        worker.push(worker.next_wait(), request_id)
        assert result.result().id == request_id
