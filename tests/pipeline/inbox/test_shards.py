"""The shards of the inbox: whatever numbers producers choose, each request arrives once, and none stays behind."""

from __future__ import annotations

from collections import Counter

import pytest
import redis
from tests.fixtures.agents import IN_AN_HOUR, MODEL, Carpool, request
from tests.fixtures.assertions import assert_counts_are_exact
from tests.fixtures.inbox import append_to, envelope

from carpool import Producer, QueueFull, Request
from carpool.contract import OLD_ENTRY_FIELD, encode_old_entry, mint_id
from carpool.shards import MAX_SHARDS, OLD_INBOX, OLD_QUEUED, inbox_of, queued_of, shard_of
from carpool_worker.pipeline.batching import aggregator
from carpool_worker.pipeline.inbox import shards
from carpool_worker.pipeline.inbox.shards import SHARDS, Shard
from carpool_worker.pipeline.inbox.stream import Inbox
from carpool_worker.views.vitals import read_vitals


def aggregate(carpool: Carpool, shard: Shard) -> None:
    inbox = Inbox(carpool.server, 30, shard)
    aggregator.aggregate(carpool.engine, inbox, carpool.limits, lambda _: None, carpool.budgets)


def aggregate_all(carpool: Carpool) -> None:
    for shard in shards.filled(carpool.server):
        aggregate(carpool, shard)
    assert shards.filled(carpool.server) == []
    assert shards.queued(carpool.server) == 0


def enqueue(carpool: Carpool, redis_url: str, count: int, number: int) -> None:
    with Producer(redis_url, client="tests", inbox_shards=number) as producer:
        for n in range(count):
            producer.enqueue(request(f"{number} {n}"))


def test_each_shard_has_an_open_batch_of_its_own(unhurried: Carpool, redis_url: str) -> None:
    enqueue(unhurried, redis_url, 40, 3)
    assert {shard.number for shard in shards.filled(unhurried.server)} == {0, 1, 2}

    aggregate_all(unhurried)

    open_batches = unhurried.rows("SELECT lane, shard, state, request_count FROM batches ORDER BY shard")
    assert [row[:3] for row in open_batches] == [(MODEL, n, "open") for n in range(3)]
    assert sum(row.request_count for row in open_batches) == 40
    assert_counts_are_exact(unhurried.engine)


def test_producers_of_any_number_of_shards_and_of_protocol_1_strand_nothing(
    unhurried: Carpool, redis_url: str
) -> None:
    # Given requests of producers that disagree, of which one was restarted with fewer shards
    for number in (MAX_SHARDS, 5, 1):
        enqueue(unhurried, redis_url, 20, number)
    old = encode_old_entry([envelope(1), envelope(2)])
    append_to((OLD_INBOX, OLD_QUEUED), unhurried.server, old, 2, OLD_ENTRY_FIELD)
    assert shards.queued(unhurried.server) == read_vitals(unhurried.server).inbox == 62

    aggregate_all(unhurried)

    assert unhurried.rows("SELECT count(*) FROM requests") == [(62,)]
    assert read_vitals(unhurried.server).inbox == 0


def test_the_oldest_entry_of_all_shards_gives_the_age_of_the_inbox(
    server: redis.Redis,
) -> None:
    seconds, _ = server.time()
    for shard, age in ((0, 5), (2, 500), (3, 50)):
        server.xadd(inbox_of(shard), {"v2": b""}, id=f"{(seconds - age) * 1_000}-0")

    assert read_vitals(server).oldest_age == pytest.approx(500, abs=5)


def test_a_keyed_request_always_goes_to_the_shard_that_its_id_determines(
    server: redis.Redis, redis_url: str
) -> None:
    keys = [f"invoice {n}" for n in range(200)]
    with Producer(redis_url, client="tests", inbox_shards=4) as producer:
        producer.enqueue_many(Request(request(), idempotency_key=key) for key in keys)
        producer.enqueue(request(), idempotency_key=keys[0])

    expected = Counter(shard_of(bytes.fromhex(mint_id("tests", key)), 4) for key in [*keys, keys[0]])
    queued = {shard: int(server.get(queued_of(shard)) or 0) for shard in range(4)}
    assert queued == expected
    assert min(queued.values()) > 20


def test_requests_are_canceled_whichever_of_their_shard_and_the_command_is_read_first(
    unhurried: Carpool, redis_url: str
) -> None:
    # Given requests in many shards, and the command to cancel them in the first
    with Producer(redis_url, client="tests", inbox_shards=8) as producer:
        ids = [producer.enqueue(request(str(n))) for n in range(40)]
        producer.cancel(*ids[:20])
    assert len(shards.filled(unhurried.server)) > 4

    # When half of the shards are read before it, and half after
    order = (SHARDS[5], SHARDS[6], SHARDS[7], SHARDS[0], SHARDS[1], SHARDS[2], SHARDS[3], SHARDS[4])
    for shard in (*order, SHARDS[0]):
        aggregate(unhurried, shard)

    canceled = {row.id for row in unhurried.rows("SELECT id FROM requests WHERE state = 'canceled'")}
    assert canceled == set(ids[:20])
    assert unhurried.rows("SELECT count(*) FROM requests") == [(40,)]


def test_all_of_a_client_is_canceled_in_shards_that_are_read_later(
    unhurried: Carpool, redis_url: str
) -> None:
    with Producer(redis_url, client="tests", inbox_shards=8) as producer:
        ids = [producer.enqueue(request(str(n))) for n in range(40)]
        producer.cancel_all()
        later = producer.enqueue(request("later"))

    aggregate(unhurried, SHARDS[0])
    aggregate_all(unhurried)
    aggregate(unhurried, SHARDS[0])

    canceled = {row.id for row in unhurried.rows("SELECT id FROM requests WHERE state = 'canceled'")}
    assert canceled == set(ids)
    assert later not in canceled


def test_all_shards_together_never_hold_more_than_max_queued(server: redis.Redis, redis_url: str) -> None:
    with Producer(redis_url, client="tests", inbox_shards=4, max_queued=43) as producer:
        accepted = full = 0
        for n in range(400):
            try:
                producer.enqueue(request(str(n)))
                accepted += 1
            except QueueFull:
                full += 1

    assert accepted + full == 400
    assert accepted == shards.queued(server) == 40  # each shard holds its share, 10


def test_seals_of_the_first_shard_include_those_of_all(carpool: Carpool, redis_url: str) -> None:
    enqueue(carpool, redis_url, 40, 3)
    carpool.limits = IN_AN_HOUR
    aggregate_all(carpool)
    carpool.change("UPDATE batches SET opened_at = 0")

    aggregate(carpool, SHARDS[0])

    assert carpool.rows("SELECT DISTINCT state FROM batches") == [("sealed",)]


@pytest.fixture
def server(redis_url: str) -> redis.Redis:
    return redis.Redis.from_url(redis_url)
