"""What a client, and a key, may have waiting holds for calls and for batches, at any number of gateways."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from tests.fixtures.agents import request
from tests.fixtures.client_batches import body_of
from tests.fixtures.gateway import ON_BOTH, RunGateway, WorkingCarpool, at_work, new_key
from tests.fixtures.gateway_calls import Reply, call, post
from tests.fixtures.waiting import until

from carpool import Producer, QueueFull
from carpool.quotas import subject_of
from carpool_worker.coordination.keys import RESERVED
from carpool_worker.coordination.loads import read_loads
from carpool_worker.pipeline.batching.recounter import recount
from carpool_worker.policies.quotas import Quota

THREE = {"tests": Quota(requests=3)}


def accepted(url: str, secret: str, text: str, **headers: str) -> int:
    return post(url, secret, request(text), prefer="respond-async", **headers).status


def create(url: str, secret: str, size: int, text: str = "Hello", **headers: str) -> Reply:
    body = body_of({f"{number}": request(text) for number in range(size)})
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return call(url, secret, "POST", "/v1/messages/batches", body, named)


def waiting(carpool: WorkingCarpool, name: str = "tests") -> int:
    return read_loads(carpool.server).waiting[name].requests


def unended(carpool: WorkingCarpool) -> int:
    [(count,)] = carpool.rows("SELECT count(*) FROM requests WHERE finished_at IS NULL")
    return int(count)


@ON_BOTH
def test_a_key_has_no_more_without_an_answer_than_it_may_at_any_gateway(
    run_gateway: RunGateway, idle_carpool: WorkingCarpool
) -> None:
    secret = new_key(idle_carpool.engine, name="limited", most_queued=2)
    other = new_key(idle_carpool.engine, name="other")

    with run_gateway() as gateway, run_gateway() as second:
        # Given as many as it may have, in the inbox and then in a batch
        assert [accepted(url, secret, url) for url in (gateway, second, second)] == [202, 202, 429]
        idle_carpool.aggregate()
        refused = post(gateway, secret, request("3"))

        # Then another one is refused, and another key's is not
        assert (refused.status, refused.error_type) == (429, "rate_limit_error")
        assert refused.json["error"]["message"].startswith("most_queued: the quota of key limited is reached")
        assert 1 <= int(refused.headers["retry-after"]) <= 30
        assert accepted(gateway, other, "4") == 202
        assert create(gateway, secret, 1).status == 429

        # When they are answered, Then there is room again, for a batch as well
        with at_work(idle_carpool):
            until(lambda: create(second, secret, 2).status == 200)
    idle_carpool.work()
    assert waiting(idle_carpool, subject_of("limited")) == 0


def test_a_clients_quota_holds_for_calls_batches_and_producers_together(
    run_gateway: RunGateway, idle_carpool: WorkingCarpool, redis_url: str
) -> None:
    secret, stranger = new_key(idle_carpool.engine), new_key(idle_carpool.engine, client="other", name="o")
    with run_gateway(quotas=THREE) as gateway, Producer(redis_url, client="tests") as producer:
        # Given one of each
        assert accepted(gateway, secret, "one", idempotency_key="one") == 202
        assert create(gateway, secret, 1, idempotency_key="b").status == 200
        producer.enqueue(request())

        # Then there is no room for another, at any door
        refused = post(gateway, secret, request("two"))
        assert (refused.status, refused.error_type) == (429, "rate_limit_error")
        assert refused.json["error"]["message"].startswith(
            "quotas.tests.requests: the quota of client tests is reached: 3 requests may be without an answer"
        )
        assert create(gateway, secret, 2).status == 429
        with pytest.raises(QueueFull):
            producer.enqueue(request())
        assert accepted(gateway, stranger, "two") == 202

        # And what is repeated is what was accepted, once that is in the tables
        idle_carpool.aggregate()
        assert accepted(gateway, secret, "one", idempotency_key="one") == 202
        assert create(gateway, secret, 1, idempotency_key="b").status == 200

        # What can never fit says so, and no client tries it again
        never = create(gateway, secret, 4)
        assert (never.status, never.headers["x-should-retry"]) == (400, "false")
        assert "3 requests without an answer, and this is 4" in never.json["error"]["message"]
    assert waiting(idle_carpool) == unended(idle_carpool) - 1 == 3
    assert not idle_carpool.server.exists(RESERVED)


def test_a_refused_call_that_is_repeated_is_a_new_one(
    run_gateway: RunGateway, idle_carpool: WorkingCarpool
) -> None:
    secret = new_key(idle_carpool.engine)
    with run_gateway(quotas={"tests": Quota(requests=1)}) as gateway:
        assert accepted(gateway, secret, "first") == 202
        for number in range(3):
            assert accepted(gateway, secret, "second", x_stainless_retry_count=f"{number}") == 429
            assert accepted(gateway, secret, "keyed", idempotency_key="keyed") == 429
        idle_carpool.work()
        assert accepted(gateway, secret, "keyed", idempotency_key="keyed") == 202
    assert not idle_carpool.orphans()


def test_a_gateway_counts_first_when_redis_has_lost_everything(
    run_gateway: RunGateway, idle_carpool: WorkingCarpool
) -> None:
    secret = new_key(idle_carpool.engine, name="limited", most_queued=2)
    with run_gateway(quotas=THREE) as gateway:
        assert create(gateway, secret, 2).status == 200
        for _ in range(2):
            idle_carpool.server.flushall()
            assert accepted(gateway, secret, "more") == 429
            assert create(gateway, secret, 1).status == 429
    assert waiting(idle_carpool) == waiting(idle_carpool, subject_of("limited")) == 2


def test_a_batch_counts_with_each_of_its_requests_in_the_minute_of_its_key(
    run_gateway: RunGateway, idle_carpool: WorkingCarpool
) -> None:
    secret = new_key(idle_carpool.engine, requests_a_minute=10)
    with run_gateway() as gateway:
        assert create(gateway, secret, 6, idempotency_key="a").status == 200
        assert create(gateway, secret, 6, idempotency_key="a").status == 200
        refused = create(gateway, secret, 6, "other")
        assert (refused.status, refused.error_type) == (429, "rate_limit_error")
        assert (
            "(requests_a_minute). A batch counts with each of its requests"
            in refused.json["error"]["message"]
        )
        assert refused.headers["anthropic-ratelimit-requests-limit"] == "10"
        assert create(gateway, secret, 3, "other").status == 200
        assert [accepted(gateway, secret, text) for text in "ab"] == [202, 429]

        never = create(gateway, secret, 11)
        assert (never.status, never.headers["x-should-retry"]) == (400, "false")
        assert (
            "may make 10 a minute (requests_a_minute), and this batch has 11"
            in never.json["error"]["message"]
        )


def test_everybody_at_once_never_exceeds_the_quota(
    run_gateway: RunGateway, idle_carpool: WorkingCarpool, redis_url: str
) -> None:
    secret = new_key(idle_carpool.engine, name="limited", most_queued=30)
    other = new_key(idle_carpool.engine, name="other")
    quotas: Any = {"tests": Quota(requests=50)}
    recount(idle_carpool.engine, idle_carpool.server, quotas)
    over = threading.Event()
    statuses: list[int] = []

    with run_gateway(quotas=quotas) as gateway, run_gateway(quotas=quotas) as second:

        def call_all(url: str, key: str) -> None:
            for number in range(10**6):
                if over.is_set():
                    return
                statuses.append(accepted(url, key, f"{url} {key} {number}"))

        def create_all(url: str, key: str) -> None:
            while not over.is_set():
                statuses.append(create(url, key, 7).status)

        def enqueue_all() -> None:
            with Producer(redis_url, client="tests") as producer:
                while not over.is_set():
                    try:
                        producer.enqueue_many(request() for _ in range(5))
                    except QueueFull:
                        over.wait(0.01)

        work = [(call_all, gateway, secret), (call_all, second, other), (create_all, second, secret)]
        threads = [threading.Thread(target=act, args=given) for act, *given in work]
        threads.append(threading.Thread(target=enqueue_all))
        for thread in threads:
            thread.start()
        most = 0
        try:
            for number in range(10):
                idle_carpool.aggregate()
                most = max(most, unended(idle_carpool))
                if number % 3 == 2:
                    idle_carpool.work()
        finally:
            over.set()
            for thread in threads:
                thread.join()

    idle_carpool.aggregate()
    assert 40 < max(most, unended(idle_carpool)) <= 50
    assert set(statuses) <= {200, 202, 429}
    of_key = idle_carpool.rows(
        "SELECT count(*) FROM requests r JOIN segments s ON s.id = r.segment_id"
        " WHERE r.finished_at IS NULL AND s.gateway_key = 'limited'"
    )
    assert of_key[0][0] <= 30
