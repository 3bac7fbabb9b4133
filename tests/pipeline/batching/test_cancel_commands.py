"""Cancel commands: whose requests they cancel, in which order things may come, and each request once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.fixtures.agents import IN_AN_HOUR, MODEL, Carpool, request
from tests.fixtures.assertions import assert_counts_are_exact
from tests.fixtures.canceling import HOOK, cancel, deliveries, given_batched, states_of
from tests.fixtures.queries import answer_bodies

from carpool import Producer, Request
from carpool.contract import CANCEL_FIELD, INBOX, QUEUED, Cancel, encode_cancel
from carpool_worker.coordination.keys import QUARANTINE
from carpool_worker.database import now
from carpool_worker.pipeline.batching import aggregator, canceler
from carpool_worker.pipeline.inbox.stream import Inbox
from carpool_worker.policies.limits import Limits
from carpool_worker.simulator import RemoteSimulator


@pytest.fixture
def stranger(redis_url: str) -> Iterator[Producer]:
    with Producer(redis_url, client="strangers", allow_http=True) as producer:
        yield producer


@pytest.mark.parametrize("everything", [False, True])
def test_a_request_that_comes_after_its_cancellation_is_canceled_on_arrival(
    unhurried: Carpool, producer: Producer, simulator: RemoteSimulator, everything: bool
) -> None:
    # Given an entry that a consumer took and died with
    ids = list(producer.enqueue_many([request("a"), request("b")], callback=HOOK))
    [_] = Inbox(unhurried.server, 30).chunks()

    # When they are canceled first and taken over afterwards
    producer.cancel_all() if everything else producer.cancel(*ids)
    later = producer.enqueue(request("c"))
    unhurried.aggregate()
    assert unhurried.rows("SELECT id FROM requests") == [(later,)]
    aggregator.aggregate(unhurried.engine, Inbox(unhurried.server, 0), IN_AN_HOUR, lambda _: None)

    # Then they end at once, and what was enqueued after does not
    assert states_of(unhurried, [*ids, later]) == ["canceled", "canceled", "batched"]
    assert deliveries(unhurried) == sorted(ids)
    assert_counts_are_exact(unhurried.engine)
    assert int(unhurried.server.get(QUEUED) or 0) == unhurried.server.xlen(INBOX) == 0


def test_a_cancel_command_and_its_requests_pooled_at_the_same_moment_meet(
    unhurried: Carpool, redis_url: str, simulator: RemoteSimulator
) -> None:
    # Given requests, and the command to cancel them, read by two aggregators
    with Producer(redis_url, client="tests") as producer:
        for _ in range(10):
            ids = producer.enqueue_many([request(f"{n}") for n in range(20)])
            [chunk] = Inbox(unhurried.server, 30).chunks()
            command = Cancel("tests", list(ids), now())

            # When both act at once
            def arrive(chunk: Any = chunk) -> None:
                aggregator.pool(unhurried.engine, chunk.packs, IN_AN_HOUR)
                canceler.apply_remembered(unhurried.engine, chunk.envelopes)

            with ThreadPoolExecutor(2) as pool:
                arrival, canceled = (
                    pool.submit(arrive),
                    pool.submit(canceler.apply_cancel, unhurried.engine, command),
                )
                arrival.result(), canceled.result()

            # Then no request slips through between them
            canceler.sweep(unhurried.engine)
            assert set(states_of(unhurried, list(ids))) == {"canceled"}


def test_cancelling_the_same_from_many_sides_at_once_cancels_once(
    unhurried: Carpool, producer: Producer, stranger: Producer, simulator: RemoteSimulator
) -> None:
    # Given several batches, open and sealed, and requests that still come
    unhurried.limits = Limits(40, 250_000_000, 3_600)
    texts = [f"{n}" for n in range(100)]
    requests = [
        Request(request(text, model), callback=HOOK) for text in texts for model in (MODEL, f"{MODEL}-b")
    ]
    ids = list(producer.enqueue_many(requests))
    unhurried.aggregate()
    others = list(stranger.enqueue_many(requests))

    # When threads cancel all of it, in different orders, while an aggregator fills the batches
    def by_id(order: int) -> None:
        canceler.request_cancellation(unhurried.engine, ids[::order])
        canceler.sweep(unhurried.engine)

    def by_client() -> None:
        canceler.request_all(unhurried.engine, "tests", now())
        canceler.sweep(unhurried.engine)

    jobs = [lambda: by_id(1), lambda: by_id(-1), by_client, unhurried.aggregate]
    with ThreadPoolExecutor(len(jobs)) as pool:
        for done in [pool.submit(job) for job in jobs]:
            done.result()

    # Then
    assert set(states_of(unhurried, ids)) == {"canceled"}
    assert set(states_of(unhurried, others)) == {"batched"}
    assert_counts_are_exact(unhurried.engine)
    assert deliveries(unhurried) == sorted(ids)
    assert len(answer_bodies(unhurried.engine)) == 200


def test_a_client_cancels_its_own_requests_only(
    unhurried: Carpool, producer: Producer, stranger: Producer, simulator: RemoteSimulator
) -> None:
    ids = given_batched(unhurried, producer, "a", "b")

    cancel(unhurried, stranger, *ids)
    stranger.cancel_all()
    unhurried.aggregate()

    assert states_of(unhurried, ids) == ["batched", "batched"]


def test_all_of_a_client_is_what_it_enqueued_until_then(
    unhurried: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # When enqueues and cancel_all follow each other without a pause, in one entry after the other
    before = [producer.enqueue(request("a")) for _ in range(5)]
    producer.cancel_all()
    after = [producer.enqueue(request("b")) for _ in range(5)]
    unhurried.aggregate()

    # Then
    assert states_of(unhurried, [*before, *after]) == ["canceled"] * 5 + ["batched"] * 5


@pytest.mark.parametrize(
    "command",
    [
        b"\xc1",
        encode_cancel(["tests", ["not an id"], 1]),
        encode_cancel(Cancel("", None, 1)),
        encode_cancel(Cancel("te\0sts", None, 1)),
        encode_cancel(Cancel("tests", None, 2**63)),
    ],
)
def test_a_cancel_command_that_cannot_be_read_is_quarantined(
    unhurried: Carpool, producer: Producer, command: bytes
) -> None:
    unhurried.server.xadd(INBOX, {CANCEL_FIELD: command})
    [request_id] = given_batched(unhurried, producer, "a")

    assert states_of(unhurried, [request_id]) == ["batched"]
    assert unhurried.server.xlen(QUARANTINE) == 1
    assert unhurried.server.xlen(INBOX) == 0
