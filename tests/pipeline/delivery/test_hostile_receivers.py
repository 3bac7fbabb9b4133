"""Receivers that misbehave delay nobody else and fill no memory, over real sockets."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from tests.fixtures.deliveries import attempts, deliver, deliveries_by_id, given_deliveries, webhook
from tests.fixtures.webhooks import outgoing, send
from tests.pipeline.delivery import hostile as ways
from tests.pipeline.delivery.hostile import Behaviour, Hostile, hostile

from carpool_worker import database
from carpool_worker.policies.deliveries import Event
from carpool_worker.states import DeliveryState
from carpool_worker.store.deliveries import endpoints
from carpool_worker.store.deliveries.endpoints import Health

TIMEOUT = 1.0
MEGABYTE = 1_000_000
BUFFERS = 20 * MEGABYTE
"""Bytes: what sockets and the test's own server hold, and more than any answer that is read."""

NO_ANSWER = [
    ways.hang,
    ways.drip_header,
    ways.reset,
    ways.huge_header,
    ways.endless_headers,
    ways.endless_interim_answers,
    ways.garbage,
]
ANSWERED = [ways.drip_body, ways.huge_answer, ways.redirect, ways.endless_chunk_line]


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    peak: list[int] = []
    tracemalloc.start()
    try:
        yield peak
        peak.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("behave", [*NO_ANSWER, *ANSWERED], ids=lambda behave: str(behave.__name__))
def test_it_takes_no_longer_than_the_timeout_and_no_memory(behave: Behaviour) -> None:
    # Given
    with hostile(behave) as receiver, peak_memory() as peak:
        # When
        start = time.monotonic()
        [sent] = send(outgoing(receiver.url()), webhook_timeout=TIMEOUT)
        seconds = time.monotonic() - start

    # Then
    assert sent.event is (Event.ANSWERED if behave in ANSWERED else Event.FAILED)
    assert seconds < TIMEOUT + 2
    assert peak[0] < BUFFERS
    assert receiver.connections == 1


@pytest.mark.parametrize("behave", [ways.garbage, ways.hang, ways.reset])
def test_what_speaks_no_tls_is_a_failure(behave: Behaviour) -> None:
    with hostile(behave) as receiver:
        [sent] = send(outgoing(receiver.url(scheme="https")), webhook_timeout=TIMEOUT)
    assert sent.event is Event.FAILED


def test_of_a_gigabyte_only_the_start_is_taken() -> None:
    with hostile(ways.huge_answer) as receiver:
        [sent] = send(outgoing(receiver.url()))
    assert sent.status == 200
    assert receiver.written < BUFFERS


@pytest.fixture
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carpool_worker.pipeline.delivery.courier.RUN_SECONDS", 2.0)
    monkeypatch.setattr("carpool_worker.pipeline.delivery.courier.DRAIN_SECONDS", 0.5)


def given_hanging(stack: ExitStack, count: int) -> list[Hostile]:
    return [stack.enter_context(hostile(ways.hang)) for _ in range(count)]


def last_delivery(engine: sa.Engine, ids: list[str]) -> int:
    rows = deliveries_by_id(engine)
    assert {rows[id_].state for id_ in ids} == {DeliveryState.DELIVERED}
    return max(rows[id_].delivered_at or 0 for id_ in ids)


def first_timeout(engine: sa.Engine, good: list[str]) -> int:
    return min(int(row.at + row.milliseconds) for row in attempts(engine) if row.request_id not in good)


def test_many_hanging_hosts_leave_places_for_the_others(
    engine: sa.Engine, receiver: Any, short_runs: None
) -> None:
    # Given: hosts of which nothing is known, more than would fill all places with what one may have out
    with ExitStack() as stack:
        bad = [webhook(one.url()) for one in given_hanging(stack, 6)] * 10
        ids = given_deliveries(engine, *bad, *[webhook(receiver.url("/good"))] * 30)

        # When
        deliver(engine, webhook_timeout=3, webhook_concurrency=20, webhook_host_concurrency=5)

    # Then: all good answers are there before the first of the others is given up on
    good = ids[len(bad) :]
    assert last_delivery(engine, good) < first_timeout(engine, good)


def test_hosts_known_to_fail_share_few_places(engine: sa.Engine, receiver: Any, short_runs: None) -> None:
    # Given: so many that two deliveries to each would fill all places
    with ExitStack() as stack:
        hanging = given_hanging(stack, 12)
        bad = [webhook(one.url()) for one in hanging] * 3
        ids = given_deliveries(engine, *bad, *[webhook(receiver.url("/good"))] * 30)
        failing = frozenset(one.url() for one in hanging)
        with database.write(engine) as connection:
            endpoints.record_health(
                connection, Health(frozenset(), failing, frozenset()), 10**9, database.now()
            )

        # When
        deliver(engine, webhook_timeout=3, webhook_concurrency=20, webhook_host_concurrency=5)

        # Then
        good = ids[len(bad) :]
        assert last_delivery(engine, good) < first_timeout(engine, good)


def test_all_of_them_at_once_delay_nobody(engine: sa.Engine, receiver: Any) -> None:
    # Given
    with ExitStack() as stack:
        servers = [stack.enter_context(hostile(behave)) for behave in (*NO_ANSWER, *ANSWERED)]
        bad = [webhook(one.url()) for one in servers]
        ids = given_deliveries(engine, *bad, *[webhook(receiver.url("/good"))] * 30)

        # When
        deliver(engine, webhook_timeout=5, webhook_concurrency=30)

    # Then
    good = ids[len(bad) :]
    ends = {row.request_id: row.at + row.milliseconds for row in attempts(engine)}
    hung = ids[NO_ANSWER.index(ways.hang)]
    assert last_delivery(engine, good) < ends[hung]
    states = [deliveries_by_id(engine)[id_].state for id_ in ids[: len(NO_ANSWER)]]
    assert set(states) == {DeliveryState.RETRYABLE}
