"""Canceling once a batch is sent: what ran is paid for truly, what did not is not tried again."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from tests.fixtures.agents import GIVE_UP_AT_ONCE, MODEL, Carpool
from tests.fixtures.assertions import assert_the_books_balance
from tests.fixtures.canceling import (
    answer_to,
    batches_and_counts,
    cancel,
    deliveries,
    given_batched,
    states_of,
)
from tests.fixtures.queries import answer_bodies
from tests.fixtures.waiting import until

from carpool import Producer
from carpool.contract import Usage
from carpool_worker.claude.client import Claude
from carpool_worker.money.costs import Tokens, price_of
from carpool_worker.pipeline.batching import canceler
from carpool_worker.pipeline.submission import rescuer
from carpool_worker.simulator import Fault, RemoteSimulator, Script
from carpool_worker.units import DOLLAR


def test_an_answer_that_was_made_is_dropped_and_its_cost_reported(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given two requests at Anthropic
    ids = given_batched(carpool, producer, "wanted", "unwanted")
    carpool.submit()

    # When one is canceled before its answer comes
    cancel(carpool, producer, ids[1])
    assert states_of(carpool, ids) == ["batched", "batched"]
    carpool.until(lambda: carpool.ended(2))

    # Then
    assert states_of(carpool, ids) == ["completed", "canceled"]
    told = answer_to(carpool, ids[1])
    assert (told.state, told.outcome) == ("canceled", "canceled")
    assert bytes(told.message) == b"null"
    assert json.loads(bytes(told.error))["type"] == "canceled"
    [entry] = [entry for entry in simulator.ledger_entries() if entry["custom_id"] == ids[1]]
    assert told.usage == Usage(entry["input_tokens"], entry["output_tokens"])
    tokens = Tokens(entry["input_tokens"], entry["output_tokens"])
    price = price_of(tokens, MODEL, datetime.now(UTC).date())
    assert price
    assert Decimal(told.cost or 0) * DOLLAR == price.cost
    assert simulator.ledger()["billed"] == 2
    assert_the_books_balance(carpool, simulator)
    assert answer_bodies(carpool.engine)[ids[1]] == b'{"type":"canceled"}'
    assert deliveries(carpool) == sorted(ids)


@pytest.mark.parametrize("outcome", ["errored", "expired", "canceled"])
def test_what_went_wrong_is_not_tried_again(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, outcome: Any
) -> None:
    simulator.script(Script(outcome=outcome, times=1))
    [request_id] = given_batched(carpool, producer, "a")
    carpool.submit()

    cancel(carpool, producer, request_id)
    carpool.until(lambda: carpool.ended(1))

    assert states_of(carpool, [request_id]) == ["canceled"]
    assert answer_to(carpool, request_id).attempts == 1
    assert deliveries(carpool) == [request_id]


def test_what_waits_for_another_try_gets_none(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    simulator.script(Script(outcome="expired", times=1))
    [request_id] = given_batched(carpool, producer, "a")
    carpool.submit()
    carpool.until_polled("ended")
    carpool.collect()
    assert states_of(carpool, [request_id]) == ["retryable"]

    cancel(carpool, producer, request_id)
    carpool.stage()

    assert states_of(carpool, [request_id]) == ["canceled"]
    assert carpool.rows("SELECT retry_at FROM requests") == [(None,)]
    assert batches_and_counts(carpool) == [("completed", 1)]
    assert deliveries(carpool) == [request_id]


def test_what_has_ended_stays_as_it_is(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    ids = given_batched(carpool, producer, "a", "b")
    carpool.until(lambda: carpool.ended(2))
    before = carpool.rows("SELECT * FROM requests ORDER BY id")

    for _ in range(2):
        cancel(carpool, producer, *ids)
        producer.cancel_all()
        carpool.aggregate()

    assert carpool.rows("SELECT * FROM requests ORDER BY id") == before
    assert deliveries(carpool) == sorted(ids)


class Meddling(Claude):
    """Lets something happen after the body was spooled and before the intent is committed."""

    def __init__(self, meddle: Any) -> None:
        super().__init__()
        self._meddle = meddle

    def newest(self, *arguments: Any) -> Any:
        self._meddle()
        return super().newest(*arguments)


def test_a_body_is_not_posted_after_one_of_its_requests_was_canceled(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given a submitter that has spooled two requests
    ids = given_batched(carpool, producer, "a", "b")
    [row] = carpool.rows("SELECT id FROM batches")
    claude = Meddling(lambda: cancel(carpool, producer, ids[0]))

    # When one is canceled before the intent
    assert carpool.submit_batch(row.id, claude) is None
    claude.close()

    # Then nothing was posted, and the next submitter posts the other alone
    assert batches_and_counts(carpool) == [("sealed", 1)]
    assert simulator.ledger()["batches"] == 0
    carpool.until(lambda: carpool.ended(2))
    assert [entry["custom_id"] for entry in simulator.ledger_entries()] == [ids[1]]


def given_a_doubt(carpool: Carpool, producer: Producer, simulator: RemoteSimulator, kind: Any) -> list[str]:
    simulator.arm(Fault(operation="create", kind=kind))
    ids = given_batched(carpool, producer, "a", "b")
    carpool.submit()
    assert [state for state, _ in batches_and_counts(carpool)] == ["submitting"]
    return ids


def test_a_batch_in_doubt_is_sent_again_without_what_was_canceled_meanwhile(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    ids = given_a_doubt(carpool, producer, simulator, "dropped")

    cancel(carpool, producer, ids[0])
    assert batches_and_counts(carpool) == [("submitting", 2)]
    until(lambda: bool(rescuer.rescue(carpool.engine, [carpool.claude], GIVE_UP_AT_ONCE)))
    carpool.submit()  # nobody else had a look at it since

    carpool.until(lambda: carpool.ended(2))

    assert states_of(carpool, ids) == ["canceled", "completed"]
    assert answer_to(carpool, ids[0]).cost is None
    assert [entry["custom_id"] for entry in simulator.ledger_entries()] == [ids[1]]


def test_a_batch_in_doubt_is_adopted_though_some_of_it_was_canceled(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    ids = given_a_doubt(carpool, producer, simulator, "lost")

    cancel(carpool, producer, *ids)
    assert len(rescuer.rescue(carpool.engine, [carpool.claude], GIVE_UP_AT_ONCE)) == 1
    carpool.until(lambda: carpool.ended(2))

    assert states_of(carpool, ids) == ["canceled", "canceled"]
    assert simulator.ledger()["billed"] == 2
    assert_the_books_balance(carpool, simulator)


def test_a_refused_batch_is_halved_without_what_was_canceled(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    simulator.arm(Fault(operation="create", kind="error", status=400))
    ids = given_batched(carpool, producer, "a", "b", "c", "d")
    [row] = carpool.rows("SELECT id FROM batches")

    class Slow(Claude):
        def create(self, *arguments: Any) -> Any:
            canceler.request_cancellation(carpool.engine, [ids[0], ids[1]])
            return super().create(*arguments)

    claude = Slow()
    carpool.submit_batch(row.id, claude)
    claude.close()
    assert batches_and_counts(carpool) == [("rejected", 4), ("sealed", 2), ("sealed", 2)]
    carpool.submit()  # nobody else had a look at it since
    assert batches_and_counts(carpool)[1:] == [("completed", 0), ("in_progress", 2)]
    carpool.until(lambda: carpool.ended(4))

    assert states_of(carpool, ids) == ["canceled", "canceled", "completed", "completed"]
    assert {entry["custom_id"] for entry in simulator.ledger_entries()} == {ids[2], ids[3]}
