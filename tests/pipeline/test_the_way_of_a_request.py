"""The whole way with the agents in this process: real Valkey, real SQL, the real SDK against the simulator."""

from __future__ import annotations

import pytest
from tests.fixtures.agents import MODEL, Carpool, request
from tests.fixtures.queries import LEDGER

from carpool import Producer, Webhook
from carpool.contract import INBOX, QUEUED
from carpool.idempotency import CLAIMS, OLDER_CLAIMS
from carpool_worker.database import now
from carpool_worker.pipeline.submission import rescuer
from carpool_worker.policies.in_doubt import DoubtPolicy
from carpool_worker.simulator import Fault, RemoteSimulator, Script


def test_a_request_comes_back_answered_priced_and_with_a_delivery(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    request_id = producer.enqueue(request(), callback=Webhook("http://127.0.0.1:9/hook"), metadata={"n": 1})

    carpool.until(lambda: carpool.ended(1))

    [row] = carpool.rows("SELECT * FROM requests")
    assert (row.id, row.state, row.outcome, row.attempt) == (request_id, "completed", "succeeded", 1)
    assert row.cost > 0
    assert row.list_price == 2 * row.cost
    [delivery] = carpool.rows("SELECT * FROM deliveries")
    assert (delivery.answer_id, delivery.pending, delivery.state) == (row.answer_id, 1, "available")
    [usage] = carpool.rows(f"SELECT * FROM {LEDGER}")
    assert (usage.client, usage.model, usage.requests, usage.cost) == ("tests", MODEL, 1, row.cost)
    [batch] = carpool.rows("SELECT * FROM batches")
    assert (batch.state, batch.succeeded, batch.cost) == ("completed", 1, row.cost)
    assert carpool.announced == [request_id]
    assert simulator.ledger()["billed"] == 1


def test_requests_of_different_lanes_never_share_a_batch(carpool: Carpool, producer: Producer) -> None:
    producer.enqueue(request())
    producer.enqueue(request(model="claude-sonnet-4-5"))
    producer.enqueue(request(), betas=["output-300k-2026-03-24"])

    carpool.until(lambda: carpool.ended(3))

    assert sorted(carpool.rows("SELECT lane, request_count FROM batches")) == [
        (MODEL, 1),
        (f"{MODEL} anthropic-beta=output-300k-2026-03-24", 1),
        ("claude-sonnet-4-5", 1),
    ]


def test_the_same_idempotency_key_is_one_request_before_and_after_it_ended(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    first = producer.enqueue(request(), idempotency_key="invoice-1")
    second = producer.enqueue(request(), idempotency_key="invoice-1")
    carpool.until(lambda: carpool.ended(1))
    third = producer.enqueue(request(), idempotency_key="invoice-1")
    # A day later Redis has forgotten the key, and the tables know it
    assert carpool.server.delete(CLAIMS, OLDER_CLAIMS) == 1
    fourth = producer.enqueue(request("another text"), idempotency_key="invoice-1")
    carpool.go_round()

    assert first == second == third == fourth
    assert simulator.ledger()["billed"] == 1
    assert carpool.server.xlen(INBOX) == 0
    assert carpool.server.get(QUEUED) == b"0"


def test_a_create_whose_answer_was_lost_is_adopted_and_not_sent_again(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    simulator.arm(Fault(operation="create", kind="lost"))
    producer.enqueue_many([request(f"{n}") for n in range(5)])
    carpool.aggregate()
    carpool.submit()
    [batch] = carpool.rows("SELECT state, last_error, in_doubt_at FROM batches")
    assert batch.state == "submitting"
    assert batch.in_doubt_at

    rescuer.rescue(carpool.engine, [carpool.claude], carpool.doubt_policy)
    carpool.until(lambda: carpool.ended(5))

    ledger = simulator.ledger()
    assert (ledger["batches"], ledger["billed"], ledger["ran_twice"]) == (1, 5, [])


def test_a_create_that_made_nothing_is_sent_again_after_the_settling_time(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    simulator.arm(Fault(operation="create", kind="error", status=500))
    producer.enqueue(request())
    carpool.aggregate()
    carpool.submit()

    for_a_minute = DoubtPolicy(submit_timeout=60, settle_interval=60)
    assert rescuer.rescue(carpool.engine, [carpool.claude], for_a_minute) == []
    carpool.until(lambda: bool(rescuer.rescue(carpool.engine, [carpool.claude], carpool.doubt_policy)))
    carpool.until(lambda: carpool.ended(1))

    assert simulator.ledger()["billed"] == 1


@pytest.mark.parametrize("status", [401, 402, 403, 429, 529])
def test_a_temporary_refusal_returns_the_batch_and_loses_nothing(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, status: int
) -> None:
    simulator.arm(Fault(operation="create", kind="error", status=status))
    producer.enqueue(request())
    carpool.aggregate()
    before = now()
    carpool.submit()

    [batch] = carpool.rows(
        "SELECT state, last_error, due_at, probe_at FROM batches LEFT JOIN lane_pauses USING (lane)"
    )
    assert batch.state == "sealed"
    assert str(status) in batch.last_error
    assert max(batch.due_at, batch.probe_at or 0) > before
    carpool.until(lambda: carpool.ended(1))
    assert simulator.ledger()["billed"] == 1


def test_a_rejected_batch_is_halved_until_the_offender_stands_alone(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    simulator.arm(Fault(operation="create", kind="error", status=400))
    producer.enqueue_many([request(f"{n}") for n in range(5)])

    carpool.until(lambda: carpool.ended(5))

    states = carpool.rows("SELECT state, request_count FROM batches ORDER BY id")
    assert states == [("rejected", 5), ("completed", 2), ("completed", 3)]
    assert simulator.ledger()["ran_twice"] == []


def test_a_retryable_outcome_runs_again_and_an_incurable_one_does_not(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    simulator.script(
        Script(contains="flaky", outcome="errored", error_type="overloaded_error", times=1),
        Script(contains="wrong", outcome="errored", error_type="invalid_request_error"),
        Script(contains="hopeless", outcome="errored", error_type="api_error"),
        Script(contains="late", outcome="expired", times=1),
    )
    ids = producer.enqueue_many([request(t) for t in ("flaky", "wrong", "hopeless", "late")])

    carpool.until(lambda: carpool.ended(4))

    rows = {
        row.id: (row.state, row.attempt) for row in carpool.rows("SELECT id, state, attempt FROM requests")
    }
    assert [rows[request_id] for request_id in ids] == [
        ("completed", 2),
        ("discarded", 1),
        ("discarded", 3),
        ("completed", 2),
    ]
    assert simulator.ledger()["ran_twice"] == []


def test_results_cut_within_a_line_are_read_again_and_nothing_is_counted_twice(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    simulator.arm(Fault(operation="results", kind="truncated"))
    producer.enqueue_many([request(f"{n}") for n in range(50)])

    carpool.until(lambda: carpool.ended(50))

    [usage] = carpool.rows(f"SELECT requests FROM {LEDGER}")
    assert usage.requests == 50
    assert len(set(carpool.announced)) == len(carpool.announced) == 50
