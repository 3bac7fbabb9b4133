"""An idempotency key that comes again: with the same params it is the same request, with others it is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import redis

from carpool import (
    AsyncProducer,
    IdempotencyConflict,
    InvalidRequest,
    Producer,
    ProducerLike,
    Request,
    request_id_of,
)
from carpool.append_script import APPEND_SCRIPT, append_keys
from carpool.contract import INBOX, QUEUED
from carpool.idempotency import CLAIMS, DAY, OLDER_CLAIMS, claim_of
from carpool.testing import InMemoryProducer

if TYPE_CHECKING:
    from tests.producer.conftest import HandWorker, LossyProxy

MANY = 450  # of three entries


@pytest.fixture(params=["redis", "in memory"])
def any_producer(request: pytest.FixtureRequest, redis_url: str) -> Iterator[ProducerLike]:
    if request.param == "in memory":
        yield InMemoryProducer(client="tests")
        return
    with Producer(redis_url, client="tests") as found:
        yield found


def test_a_key_that_comes_with_other_params_is_refused_by_name(
    any_producer: ProducerLike, params: dict[str, Any]
) -> None:
    first = any_producer.enqueue(params, idempotency_key="invoice-42")
    # When
    with pytest.raises(IdempotencyConflict) as refusal:
        any_producer.enqueue({**params, "max_tokens": 99}, idempotency_key="invoice-42")
    # Then
    assert isinstance(refusal.value, InvalidRequest)
    assert (refusal.value.key, refusal.value.request_id) == ("invoice-42", first)
    said = f"'invoice-42' was used with other params, for request {first}: another request needs another key"
    assert str(refusal.value) == f"idempotency_key: {said}"
    assert any_producer.enqueue(params, idempotency_key="invoice-42") == first


def test_among_many_only_those_in_conflict_are_refused(
    any_producer: ProducerLike, params: dict[str, Any]
) -> None:
    # Given
    any_producer.enqueue(params, idempotency_key="k-7")
    requests = [
        Request({**params, "top_k": number + 1}, idempotency_key=f"k-{number}" if number % 2 else None)
        for number in range(MANY)
    ]
    requests[301] = Request(params, idempotency_key="k-299")  # the same key within one call
    # When
    with pytest.raises(IdempotencyConflict) as refusal:
        any_producer.enqueue_many(requests)
    # Then
    assert (refusal.value.key, refusal.value.index) == ("k-7", 7)
    assert str(refusal.value).startswith("request 7: idempotency_key: 'k-7' was used with other params")
    accepted = set(refusal.value.accepted)
    keys = {f"k-{number}" for number in range(1, MANY, 2)} - {"k-7", "k-301"}
    assert {request_id_of("tests", key) for key in keys} <= accepted
    assert len(refusal.value.accepted) == MANY - 2


def test_what_was_refused_is_not_in_the_inbox(
    producer: Producer, worker: HandWorker, params: dict[str, Any]
) -> None:
    # Given
    producer.enqueue(params, idempotency_key="k")
    # When
    with pytest.raises(IdempotencyConflict):
        producer.enqueue_many([params, Request({**params, "max_tokens": 9}, idempotency_key="k"), params])
    # Then
    assert worker.queued() == 3
    assert [one.params for one in worker.envelopes()] == [worker.envelopes()[0].params] * 3


def test_keys_are_those_of_their_client(producer: Producer, redis_url: str, params: dict[str, Any]) -> None:
    producer.enqueue(params, idempotency_key="k")
    with Producer(redis_url, client="other") as other:
        other.enqueue({**params, "max_tokens": 9}, idempotency_key="k")


def test_each_of_many_coroutines_learns_of_its_own_conflict(redis_url: str, params: dict[str, Any]) -> None:
    async def enqueue() -> tuple[str | BaseException, ...]:
        async with AsyncProducer(redis_url, client="tests") as producer:
            return await asyncio.gather(
                producer.enqueue(params, idempotency_key="k"),
                producer.enqueue({**params, "max_tokens": 9}, idempotency_key="k"),
                producer.enqueue(params, idempotency_key="k"),
                producer.enqueue(params),
                return_exceptions=True,
            )

    first, other, again, another = asyncio.run(enqueue())
    assert first == again == request_id_of("tests", "k")
    assert isinstance(other, IdempotencyConflict)
    assert (other.key, other.index) == ("k", None)
    assert isinstance(another, str)


def test_an_enqueue_that_is_tried_again_is_no_conflict(
    proxy: LossyProxy, proxy_url: str, worker: HandWorker, params: dict[str, Any]
) -> None:
    with Producer(proxy_url, client="tests") as producer:
        producer.enqueue(params)  # Redis knows the script now
        proxy.losses = 1
        request_id = producer.enqueue(params, idempotency_key="k")
    assert proxy.dropped == 1
    assert [one.id for one in worker.envelopes()][1:] == [request_id] * 2


def test_a_redis_that_lost_the_script_refuses_the_key_all_the_same(
    producer: Producer, worker: HandWorker, params: dict[str, Any]
) -> None:
    producer.enqueue(params, idempotency_key="k")
    worker.redis.script_flush()
    with pytest.raises(IdempotencyConflict) as refusal:
        producer.enqueue({**params, "max_tokens": 9}, idempotency_key="k")
    assert refusal.value.index is None


def test_a_full_inbox_claims_nothing(redis_url: str, worker: HandWorker, params: dict[str, Any]) -> None:
    with Producer(redis_url, client="tests", max_queued=1) as producer:
        producer.enqueue(params)
        with pytest.raises(Exception, match="the inbox has reached its limit"):
            producer.enqueue(params, idempotency_key="k")
        worker.redis.delete(INBOX, QUEUED)
        producer.enqueue({**params, "max_tokens": 9}, idempotency_key="k")


def test_requests_without_a_key_claim_nothing(
    producer: Producer, worker: HandWorker, params: dict[str, Any]
) -> None:
    producer.enqueue(params)
    producer.enqueue_many([params] * 300)
    assert not worker.redis.exists(CLAIMS)


def test_claims_are_kept_for_a_day_and_then_go_by_themselves(
    producer: Producer, worker: HandWorker, params: dict[str, Any]
) -> None:
    # Given: a claim that is nearly a day old
    producer.enqueue(params, idempotency_key="old")
    assert DAY < worker.redis.ttl(CLAIMS) <= 2 * DAY
    worker.redis.expire(CLAIMS, DAY - 1)
    # When
    producer.enqueue(params, idempotency_key="new")
    # Then
    assert (worker.redis.hlen(CLAIMS), worker.redis.hlen(OLDER_CLAIMS)) == (1, 1)
    assert 0 < worker.redis.ttl(OLDER_CLAIMS) < DAY < worker.redis.ttl(CLAIMS)
    with pytest.raises(IdempotencyConflict):
        producer.enqueue({**params, "max_tokens": 9}, idempotency_key="old")


def test_the_memory_of_claims_is_bounded(redis_url: str) -> None:
    # Given
    bounded = APPEND_SCRIPT.replace("200000", "1000")
    assert bounded != APPEND_SCRIPT
    keys = [*append_keys(0), CLAIMS, OLDER_CLAIMS]
    with redis.Redis.from_url(redis_url) as server:
        # When
        for number in range(40):
            claims = b"".join(claim_of(number.to_bytes(8) + at.to_bytes(8), b"{}") for at in range(200))
            server.eval(bounded, len(keys), *keys, 200, 0, "tests", 0, "", 0, 0, "v2", b"-", claims)
        # Then
        assert server.hlen(CLAIMS) == server.hlen(OLDER_CLAIMS) == 1000
