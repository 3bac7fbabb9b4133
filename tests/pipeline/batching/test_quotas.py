"""A client has no more waiting than its quota allows, whoever enqueues, and has its room back when requests end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace
from tests.fixtures.agents import Carpool, request
from tests.fixtures.inbox import append, append_old, envelope

from carpool import AsyncProducer, Producer, QueueFull
from carpool.contract import INBOX
from carpool.quotas import ALARMS, LOADS, QUOTAS
from carpool_worker.coordination.loads import Load, publish, read_loads
from carpool_worker.database import now
from carpool_worker.pipeline.batching.recounter import recount
from carpool_worker.pipeline.batching.releases import Releases
from carpool_worker.pipeline.inbox.stream import Inbox
from carpool_worker.policies.quotas import Quota
from carpool_worker.store.reports import clients

CLIENT = "billing"
QUOTA = {CLIENT: Quota(requests=10)}


@pytest.fixture
def limited(carpool: Carpool) -> Carpool:
    for _ in range(2):  # the first one wants another
        count(carpool)
    carpool.server.delete(ALARMS)
    return carpool


@pytest.fixture
def producer(redis_url: str) -> Iterator[Producer]:
    with Producer(redis_url, client=CLIENT) as one:
        yield one


def count(carpool: Carpool, quotas: dict[str, Quota] = QUOTA) -> None:
    recount(carpool.engine, carpool.server, quotas, at_once=True)


def waiting(carpool: Carpool, client: str = CLIENT) -> int:
    return read_loads(carpool.server).waiting.get(client, Load()).requests


def entries(carpool: Carpool, stream: str) -> Any:
    return carpool.server.xrange(stream)


def stored(carpool: Carpool) -> int:
    [(count,)] = carpool.rows("SELECT count(*) FROM requests")
    return int(count)


def test_a_client_over_its_quota_is_told_which_and_another_is_not(
    limited: Carpool, producer: Producer, redis_url: str
) -> None:
    producer.enqueue_many(request() for _ in range(10))

    with pytest.raises(QueueFull) as refused:
        producer.enqueue(request())

    assert str(refused.value) == (
        "the quota of client billing is reached: 10 requests may be without an answer, 10 are, "
        "and 1 more are too many"
    )
    assert refused.value.quota
    assert refused.value.quota.what == "requests"
    assert (refused.value.quota.limit, refused.value.quota.waiting) == (10, 10)
    with Producer(redis_url, client="other") as other:
        other.enqueue(request())


def test_bytes_have_a_quota_of_their_own(carpool: Carpool, producer: Producer) -> None:
    count(carpool, {CLIENT: Quota(bytes=5_000)})
    text = "x" * 2_000

    producer.enqueue_many([request(text), request(text)])
    with pytest.raises(QueueFull, match="5,000 bytes of params may be without an answer") as refused:
        producer.enqueue(request(text))
    assert refused.value.quota
    assert not refused.value.quota.never_fits

    with pytest.raises(
        QueueFull, match="is 5,000 bytes of params without an answer, and this is"
    ) as too_large:
        producer.enqueue(request(3 * text))
    assert too_large.value.quota
    assert too_large.value.quota.never_fits


def test_the_default_quota_is_of_each_client_without_one(
    carpool: Carpool, producer: Producer, redis_url: str
) -> None:
    count(carpool, {"default": Quota(requests=1), CLIENT: Quota(requests=2)})
    producer.enqueue_many([request(), request()])
    for client in ("one", "two"):
        with Producer(redis_url, client=client) as other:
            other.enqueue(request())
            with pytest.raises(QueueFull):
                other.enqueue(request())


def test_what_is_stored_still_waits_and_what_has_ended_does_not(limited: Carpool, producer: Producer) -> None:
    producer.enqueue_many(request() for _ in range(10))
    limited.aggregate()

    assert waiting(limited) == 10
    with pytest.raises(QueueFull):
        producer.enqueue(request())

    limited.go_round()
    assert waiting(limited) == 0
    producer.enqueue_many(request() for _ in range(10))


def test_a_quota_of_one_never_refuses_who_waits_for_each_answer(carpool: Carpool, producer: Producer) -> None:
    count(carpool, {CLIENT: Quota(requests=1)})

    for _ in range(3):
        producer.enqueue(request())
        carpool.go_round()

    assert waiting(carpool) == 0


def test_canceled_requests_wait_no_longer(limited: Carpool, producer: Producer) -> None:
    ids = producer.enqueue_many(request() for _ in range(10))
    producer.cancel(*ids)
    limited.aggregate()

    # What ended before it was known to be stored is found by the next count
    count(limited)
    assert waiting(limited) == 0


def test_many_producers_at_once_never_exceed_the_quota(limited: Carpool, redis_url: str) -> None:
    count(limited, {CLIENT: Quota(requests=100)})
    accepted: list[str] = []
    over = threading.Event()

    def enqueue_all() -> None:
        with Producer(redis_url, client=CLIENT) as producer:
            while not over.is_set():
                try:
                    accepted.extend(producer.enqueue_many(request() for _ in range(7)))
                except QueueFull as full:
                    accepted.extend(full.accepted)
                    over.wait(0.01)

    async def enqueue_together() -> None:
        async with AsyncProducer(redis_url, client=CLIENT) as producer:
            while not over.is_set():
                done = await asyncio.gather(
                    *(producer.enqueue(request()) for _ in range(9)), return_exceptions=True
                )
                accepted.extend(one for one in done if isinstance(one, str))
                await asyncio.sleep(0.01)

    threads = [threading.Thread(target=enqueue_all) for _ in range(3)]
    threads += [threading.Thread(target=asyncio.run, args=[enqueue_together()]) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        # When the agents store, answer, and count, all the while
        most = 0
        for number in range(12):
            limited.aggregate()
            most = max(most, unended(limited))
            if number % 3 == 2:
                limited.go_round()
            count(limited, {CLIENT: Quota(requests=100)})
    finally:
        over.set()
        for thread in threads:
            thread.join()

    # Then never more waited in the tables than was allowed, and room was used again
    limited.aggregate()
    most = max(most, unended(limited))
    assert 90 < most <= 100
    assert stored(limited) == len(set(accepted)) > 200


def unended(carpool: Carpool) -> int:
    [(count,)] = carpool.rows("SELECT count(*) FROM requests WHERE finished_at IS NULL")
    return int(count)


def test_coroutines_of_one_process_fill_the_quota_to_the_last_request(
    limited: Carpool, redis_url: str
) -> None:
    async def enqueue_25() -> list[object]:
        async with AsyncProducer(redis_url, client=CLIENT) as producer:
            calls = (producer.enqueue(request()) for _ in range(25))
            return list(await asyncio.gather(*calls, return_exceptions=True))

    done = asyncio.run(enqueue_25())

    assert sum(isinstance(one, str) for one in done) == 10
    assert all(isinstance(one, QueueFull) and one.quota for one in done if not isinstance(one, str))


def test_a_repeated_request_counts_again_until_the_tables_are_counted(
    limited: Carpool, producer: Producer
) -> None:
    for _ in range(2):
        producer.enqueue_many([request()] * 3, callback=None)
        producer.enqueue(request(), idempotency_key="same")
        limited.aggregate()
    assert waiting(limited) == 8

    count(limited)
    assert waiting(limited) == stored(limited) == 7


def test_what_ends_while_the_tables_are_counted_is_not_taken_off_twice(
    limited: Carpool, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given requests that end after an agent has read the counts
    producer.enqueue_many(request() for _ in range(10))
    limited.aggregate()
    limited.submit()
    limited.until_polled("ended")
    late = Releases()
    late.begin(limited.server)
    monkeypatch.setattr(Releases, "ended", lambda *_: None)
    limited.collect()
    monkeypatch.undo()
    assert len(limited.announced) == 10

    # When the tables are counted before the agent says that they have ended, and others have come
    count(limited)
    producer.enqueue_many(request() for _ in range(4))
    limited.aggregate()
    late.ended(limited.engine, limited.server, limited.announced)

    # Then the others still count, and a count is wanted, as something may have been left on
    assert waiting(limited) == 4
    assert read_loads(limited.server).is_wanted


def count_and_store_meanwhile(carpool: Carpool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Count, and store what is in the inbox after the tables were read and before the count is published."""

    def count_then_store(*given: Any) -> dict[str, Load]:
        found = loads(*given)
        monkeypatch.undo()
        carpool.aggregate()
        return found

    loads = clients.loads
    monkeypatch.setattr(clients, "loads", count_then_store)
    count(carpool)


def test_what_is_stored_while_the_tables_are_counted_still_counts(
    limited: Carpool, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer.enqueue_many(request() for _ in range(4))

    count_and_store_meanwhile(limited, monkeypatch)

    assert waiting(limited) == stored(limited) == 4


def test_a_refusal_has_the_tables_counted_once_that_is_due(limited: Carpool, producer: Producer) -> None:
    producer.enqueue_many(request() for _ in range(10))
    limited.server.hset(LOADS, mapping={"counted_at": now(), "took": 2_000})
    assert recount(limited.engine, limited.server, QUOTA) is None

    with pytest.raises(QueueFull):
        producer.enqueue(request())

    # Counting takes a twentieth of the time
    assert 30 < (recount(limited.engine, limited.server, QUOTA) or 0) <= 40
    [(_, alarm)] = entries(limited, "carpool:alarms")
    assert alarm[b"task"] == b"recount"


def test_counts_are_there_again_after_redis_has_lost_everything(limited: Carpool, producer: Producer) -> None:
    producer.enqueue_many(request() for _ in range(10))
    limited.aggregate()
    limited.server.flushall()
    producer.enqueue(request())  # nothing limits it until the worker has counted

    recount(limited.engine, limited.server, QUOTA)

    assert waiting(limited) == 10
    with pytest.raises(QueueFull):
        producer.enqueue(request())


def test_what_was_counted_before_the_loss_is_not_taken_off_what_came_after_it(
    limited: Carpool, producer: Producer
) -> None:
    # Given an entry that was read, and stored only after the counts were lost
    producer.enqueue_many(request() for _ in range(5))
    inbox = Inbox(limited.server, 30)
    [chunk] = inbox.chunks()
    limited.server.delete(LOADS, QUOTAS)
    count(limited)
    producer.enqueue_many(request() for _ in range(3))

    inbox.acknowledge(chunk)

    assert waiting(limited) == 8


def test_what_is_stored_during_the_first_count_counts_with_the_second(
    limited: Carpool, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer.enqueue_many(request() for _ in range(4))
    limited.server.delete(LOADS, QUOTAS)

    count_and_store_meanwhile(limited, monkeypatch)

    assert recount(limited.engine, limited.server, QUOTA)  # it says when
    count(limited)
    assert waiting(limited) == 4


def test_without_quotas_nothing_is_kept_in_redis(limited: Carpool, producer: Producer) -> None:
    producer.enqueue(request())
    count(limited, {})
    limited.aggregate()

    assert not limited.server.exists(LOADS, QUOTAS)
    assert stored(limited) == 1


def test_an_unreadable_entry_and_old_ones_leave_the_counts_right(
    limited: Carpool, producer: Producer
) -> None:
    producer.enqueue_many(request() for _ in range(4))
    [(entry_id, fields)] = entries(limited, INBOX)
    limited.server.xdel(INBOX, entry_id)
    limited.server.xadd(INBOX, {**fields, b"v2": b"nonsense"})
    append(limited.server, *(replace(envelope(number), client=CLIENT) for number in (1, 2)))
    append_old(limited.server, [replace(envelope(3), client=CLIENT)])

    limited.aggregate()

    assert waiting(limited) == stored(limited) == 3


@pytest.mark.parametrize("lost", ["loads", "quotas"])
def test_half_of_the_counts_lost_is_no_harm(limited: Carpool, producer: Producer, lost: str) -> None:
    producer.enqueue_many(request() for _ in range(5))
    limited.server.delete({"loads": LOADS, "quotas": QUOTAS}[lost])
    limited.aggregate()
    recount(limited.engine, limited.server, QUOTA, at_once=True)
    assert waiting(limited) == 5


def test_a_count_that_another_one_overtook_changes_nothing(limited: Carpool, producer: Producer) -> None:
    producer.enqueue_many(request() for _ in range(5))
    limited.aggregate()
    before = read_loads(limited.server)
    count(limited)

    late = publish(limited.server, before, {}, {CLIENT: "1 0"}, [CLIENT], streams=[], at=now(), took=0)

    assert not late
    assert waiting(limited) == 5


def test_one_call_fills_a_quota_that_is_smaller_than_an_entry_to_the_last_request(
    limited: Carpool, producer: Producer
) -> None:
    with pytest.raises(QueueFull) as refused:
        producer.enqueue_many(request() for _ in range(150))

    assert len(refused.value.accepted) == waiting(limited) == 10
    limited.aggregate()
    assert stored(limited) == 10


def test_an_empty_inbox_counts_as_empty_whatever_has_gone_wrong(limited: Carpool, producer: Producer) -> None:
    producer.enqueue_many(request() for _ in range(10))
    limited.server.delete(INBOX)
    assert waiting(limited) == 10

    count(limited)

    assert waiting(limited) == 0
    producer.enqueue(request())
