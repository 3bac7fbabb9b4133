"""Canceling what was not sent: it costs nothing, and leaves its batch exact."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from tests.fixtures.agents import IN_AN_HOUR, Carpool
from tests.fixtures.assertions import assert_counts_are_exact, assert_the_books_balance
from tests.fixtures.canceling import (
    answer_to,
    batches_and_counts,
    cancel,
    deliveries,
    given_batched,
    states_of,
)
from tests.fixtures.waiting import until

from carpool import Producer
from carpool_worker import migrations
from carpool_worker.database import open_engine, read
from carpool_worker.pipeline.batching import aggregator, canceler
from carpool_worker.pipeline.delivery.channels import reply
from carpool_worker.pipeline.inbox.stream import Inbox
from carpool_worker.policies.limits import Limits
from carpool_worker.simulator import RemoteSimulator
from carpool_worker.store.requests import cancellations


@pytest.mark.parametrize("limits", [IN_AN_HOUR, Limits(count=3, body_bytes=250_000_000, seconds=3_600.0)])
def test_what_was_not_sent_leaves_its_batch_at_no_cost(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, limits: Limits
) -> None:
    # Given three requests in an open batch, or in a sealed one
    carpool.limits = limits
    ids = given_batched(carpool, producer, "a", "b", "c")

    # When
    cancel(carpool, producer, ids[1])

    # Then
    assert states_of(carpool, ids) == ["batched", "canceled", "batched"]
    assert_counts_are_exact(carpool.engine)
    told = answer_to(carpool, ids[1])
    assert (told.state, told.outcome, told.usage, told.cost) == ("canceled", "canceled", None, None)
    assert deliveries(carpool) == [ids[1]]
    carpool.limits = Limits(3, 250_000_000, 0)
    carpool.until(lambda: carpool.ended(3))
    assert {entry["custom_id"] for entry in simulator.ledger_entries()} == {ids[0], ids[2]}
    assert_the_books_balance(carpool, simulator)


@pytest.mark.parametrize("count", [2, 100])
def test_a_batch_that_is_canceled_whole_is_never_posted(
    unhurried: Carpool, producer: Producer, simulator: RemoteSimulator, count: int
) -> None:
    unhurried.limits = Limits(count, 250_000_000, 3_600)
    ids = given_batched(unhurried, producer, "a", "b")

    cancel(unhurried, producer, *ids)
    unhurried.submit()

    assert batches_and_counts(unhurried) == [("completed", 0)]
    assert simulator.ledger()["batches"] == 0
    [later] = given_batched(unhurried, producer, "c")
    assert states_of(unhurried, [*ids, later]) == ["canceled", "canceled", "batched"]


def test_many_are_canceled_in_small_transactions(
    unhurried: Carpool, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canceler, "CHUNK_REQUESTS", 2)
    ids = given_batched(unhurried, producer, "a", "b", "c", "d", "e")

    cancel(unhurried, producer, *ids)

    assert states_of(unhurried, ids) == ["canceled"] * 5
    assert batches_and_counts(unhurried) == [("completed", 0)]
    assert deliveries(unhurried) == sorted(ids)


def test_a_producer_that_waits_gets_the_result(
    unhurried: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    [request_id] = given_batched(unhurried, producer, "a")

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(producer.wait, request_id, 20)
        cancel(unhurried, producer, request_id)
        until(waiting.done, step=lambda: reply.answer_waits(unhurried.server, unhurried.engine))

    told = waiting.result()
    assert (told.state, told.outcome, told.usage, told.cost) == ("canceled", "canceled", None, None)
    assert told.error
    assert told.error.type == "canceled"


def test_a_cancellation_requested_by_a_killed_worker_is_carried_out_by_the_next(
    unhurried: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    ids = given_batched(unhurried, producer, "a", "b")
    canceler.request_cancellation(unhurried.engine, ids[:1])

    unhurried.aggregate()

    assert states_of(unhurried, ids) == ["canceled", "batched"]


def test_the_aggregator_reports_what_was_canceled(
    unhurried: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    ids = given_batched(unhurried, producer, "a", "b")
    producer.cancel(*ids)
    reported: list[Any] = []

    aggregator.aggregate(unhurried.engine, Inbox(unhurried.server, 30), IN_AN_HOUR, reported.append)

    assert sorted(id_ for filled in reported for id_ in filled.canceled) == sorted(ids)
    [(batch_id,)] = unhurried.rows("SELECT id FROM batches")
    assert [id_ for filled in reported for id_ in filled.dissolved] == [batch_id]


def test_requested_cancellations_are_found_by_their_index(sqlite_url: str) -> None:
    # Given the statements that run every second, as SQLite plans them
    migrations.upgrade(sqlite_url)
    engine = open_engine(sqlite_url)
    selects: list[tuple[str, Any]] = []

    def keep(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):
            selects.append((statement, parameters))

    with read(engine) as connection:
        sa.event.listen(connection, "before_cursor_execute", keep)
        cancellations.unsent_to_be_canceled(connection)
        cancellations.unwanted(connection)

    # Then none walks through all requests of a batch
    with read(engine) as connection:
        for statement, parameters in list(selects):
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            assert "ix_requests_cancel_requested" in str(plan)
    assert len(selects) == 2
    engine.dispose()
