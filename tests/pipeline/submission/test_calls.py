"""Calls in real time: out of the pool, made once, answered as any request is, billed at the full price."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from threading import Thread

import pytest
from tests.fixtures.agents import Carpool, request
from tests.fixtures.calls import Calling, billed, calling, pooled, state

from carpool import Producer
from carpool_worker.database import read, write
from carpool_worker.pipeline.batching import call_queue, canceler
from carpool_worker.pipeline.submission import call_outcomes
from carpool_worker.policies.budgets import Budget, Over
from carpool_worker.simulator import Fault, RemoteSimulator, Script
from carpool_worker.store.requests import call_claims
from carpool_worker.units import Milliseconds

__all__ = ["calling"]


def test_a_request_is_called_and_answered_as_any_other(
    unhurried: Carpool, calling: Calling, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given
    called, waits = pooled(unhurried, producer, "Hurry", "Wait")
    # When
    assert calling.take_out(called).queued == [called]
    assert calling.call() == 1
    # Then
    assert state(unhurried, called) == ("completed", "succeeded", None)
    assert state(unhurried, waits)[0] == "batched"
    assert unhurried.rows("SELECT request_count FROM batches") == [(1,)]
    assert unhurried.rows("SELECT pending FROM deliveries") == [(1,)]
    assert unhurried.announced == [called]
    assert calling.states() == [("answered",)]
    # And it is billed at the full price
    ((counted, cost, list_price),) = billed(unhurried).values()
    assert counted == 1
    assert cost == list_price > 0
    paid = unhurried.rows(
        "SELECT r.cost, c.cost FROM requests r JOIN real_time_calls c ON c.request_id = r.id"
    )
    assert paid == [(cost, cost)]
    assert simulator.ledger()["billed_in_real_time"] == simulator.ledger()["billed"] == 1


def test_a_batch_that_is_left_empty_is_dissolved(
    unhurried: Carpool, calling: Calling, producer: Producer
) -> None:
    ids = pooled(unhurried, producer, "One", "Two")
    taken = calling.take_out(*ids)
    assert sorted(taken.queued) == sorted(ids)
    assert unhurried.rows("SELECT state, request_count FROM batches") == [("completed", 0)]
    assert len(taken.dissolved) == 1


def test_without_real_time_money_nothing_is_called(
    unhurried: Carpool, calling: Calling, producer: Producer
) -> None:
    ids = pooled(unhurried, producer, "Hurry")
    calling.policy = replace(calling.policy, budgets={})
    assert calling.take_out(*ids) == call_queue.TakenOut()
    assert calling.states() == []
    assert state(unhurried, ids[0])[0] == "batched"


def test_no_more_is_called_than_the_real_time_budget_has_room_for(
    unhurried: Carpool, calling: Calling, producer: Producer
) -> None:
    # Given a budget for one call of 64 tokens and a short prompt, and for none of other clients
    ids = pooled(unhurried, producer, "One", "Two", "Three")
    calling.policy = replace(calling.policy, budgets={"tests": Budget(day=Decimal("0.0005"))})
    # When
    taken = calling.take_out(*ids)
    # Then
    assert (len(taken.queued), len(taken.over_budget), taken.refused) == (1, 2, [])
    assert not calling.policy.allows("others")
    # And what it cost less than estimated has room again
    calling.call()
    again = calling.take_out(*taken.over_budget)
    assert len(again.queued) == 1


def test_a_client_that_will_not_wait_is_refused_with_an_error_that_names_the_budget(
    unhurried: Carpool, calling: Calling, producer: Producer
) -> None:
    ids = pooled(unhurried, producer, "Hurry")
    budget = Budget(day=Decimal("0.0000001"), over=Over.REFUSE)
    calling.policy = replace(calling.policy, budgets={"*": budget})
    assert calling.take_out(*ids).refused == ids
    assert state(unhurried, ids[0]) == ("discarded", "errored", "real_time_budget_exceeded")
    assert unhurried.rows("SELECT pending FROM deliveries") == [(1,)]


def test_the_clients_own_budget_pays_for_calls_as_well(
    unhurried: Carpool, calling: Calling, producer: Producer
) -> None:
    # Given a budget that has room for both in a batch, and for one at the full price
    unhurried.budgets = {"tests": Budget(day=Decimal("0.0006"))}
    ids = pooled(unhurried, producer, "One", "Two")
    calling.policy = replace(calling.policy, client_budgets=unhurried.budgets)
    reserved = unhurried.rows("SELECT estimate FROM requests")
    # When
    taken = calling.take_out(*ids)
    # Then
    assert (len(taken.queued), len(taken.over_budget)) == (1, 1)
    (called,) = unhurried.rows(f"SELECT estimate FROM requests WHERE id = id_of('{taken.queued[0]}')")
    assert called[0] == 2 * reserved[0][0]


@pytest.mark.parametrize("kind", ["lost", "dropped", "error_after", "truncated", "page"])
def test_a_lost_answer_is_told_and_never_called_again(
    unhurried: Carpool, calling: Calling, producer: Producer, simulator: RemoteSimulator, kind: str
) -> None:
    # Given
    ids = pooled(unhurried, producer, "Hurry")
    simulator.arm(Fault(operation="messages", kind=kind, status=500))  # type: ignore[arg-type]
    calling.take_out(*ids)
    # When
    calling.call()
    calling.call()
    # Then
    assert state(unhurried, ids[0]) == ("discarded", "errored", "answer_lost")
    assert calling.states() == [("lost",)]
    assert unhurried.rows("SELECT submissions FROM real_time_calls") == [(1,)]
    assert simulator.ledger()["billed"] == (0 if kind == "dropped" else 1)
    assert unhurried.rows("SELECT pending FROM deliveries") == [(1,)]
    # And it may have been billed, so its estimate counts as spent
    assert unhurried.announced == ids


@pytest.mark.parametrize("status", [429, 529])
def test_a_certain_refusal_is_tried_again(
    unhurried: Carpool, calling: Calling, producer: Producer, simulator: RemoteSimulator, status: int
) -> None:
    ids = pooled(unhurried, producer, "Hurry")
    simulator.arm(Fault(operation="messages", kind="error", status=status))
    calling.take_out(*ids)
    # When
    calling.call()
    assert calling.states() == [("available",)]
    unhurried.change("UPDATE real_time_calls SET due_at = 0")
    calling.call()
    # Then
    assert state(unhurried, ids[0]) == ("completed", "succeeded", None)
    assert unhurried.rows("SELECT submissions FROM real_time_calls") == [(2,)]
    assert simulator.ledger()["billed"] == 1


def test_without_time_for_another_call_it_goes_back_into_the_pool(
    unhurried: Carpool, calling: Calling, producer: Producer, simulator: RemoteSimulator
) -> None:
    ids = pooled(unhurried, producer, "Hurry")
    simulator.arm(Fault(operation="messages", kind="error", status=529, retry_after=7_200))
    calling.take_out(*ids)
    # When
    calling.call()
    # Then
    assert calling.states() == [("returned",)]
    assert state(unhurried, ids[0])[0] == "retryable"
    unhurried.stage()
    assert unhurried.rows("SELECT state, attempt FROM requests") == [("batched", 1)]
    assert calling.take_out(*ids).queued == []  # it had its chance


def test_a_call_whose_deadline_has_passed_goes_back_into_the_pool(
    unhurried: Carpool, calling: Calling, producer: Producer, simulator: RemoteSimulator
) -> None:
    ids = pooled(unhurried, producer, "Hurry")
    calling.take_out(*ids, deadline=0)
    calling.call()
    assert calling.states() == [("returned",)]
    assert simulator.ledger()["billed"] == 0


def test_an_invalid_request_ends_with_the_apis_error_at_no_cost(
    unhurried: Carpool, calling: Calling, producer: Producer, simulator: RemoteSimulator
) -> None:
    simulator.script(
        Script(outcome="errored", error_type="invalid_request_error", message="messages: too odd")
    )
    ids = pooled(unhurried, producer, "Hurry")
    calling.take_out(*ids)
    calling.call()
    assert state(unhurried, ids[0]) == ("discarded", "errored", "invalid_request_error")
    assert calling.states() == [("refused",)]
    assert billed(unhurried) == {}


@pytest.mark.parametrize("status", [401, 402, 403])
def test_trouble_with_the_key_pauses_the_lane_and_returns_the_request(
    unhurried: Carpool, calling: Calling, producer: Producer, simulator: RemoteSimulator, status: int
) -> None:
    first, second = pooled(unhurried, producer, "One", "Two")
    simulator.arm(Fault(operation="messages", kind="error", status=status))
    calling.take_out(first)
    calling.call()
    # Then
    assert calling.states() == [("returned",)]
    assert state(unhurried, first)[0] == "retryable"
    assert len(unhurried.rows("SELECT lane FROM lane_pauses")) == 1
    # And nothing is called while it is paused
    calling.take_out(second)
    assert calling.call() == 0


def test_a_killed_caller_leaves_a_doubt_and_a_silent_one_is_suspected_first(
    unhurried: Carpool, calling: Calling, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given a call that was claimed, by a process that is no more
    ids = pooled(unhurried, producer, "Hurry")
    calling.take_out(*ids)
    (claimed,) = calling.claim("gone")
    # When
    assert calling.rescue() == []
    assert calling.call() == 0
    assert calling.rescue() == ids
    # Then
    assert state(unhurried, ids[0]) == ("discarded", "errored", "answer_lost")
    assert simulator.ledger()["billed"] == 0
    # And one that was only silent may not send any more
    with read(unhurried.engine) as connection:
        assert not call_claims.is_ours(connection, claimed)


def test_a_caller_that_renews_its_lease_is_suspected_no_longer(
    unhurried: Carpool, calling: Calling, producer: Producer
) -> None:
    ids = pooled(unhurried, producer, "Hurry")
    calling.take_out(*ids)
    claimed = calling.claim("slow")
    calling.rescue()
    with write(unhurried.engine) as connection:
        call_claims.renew(connection, claimed, Milliseconds(10**13))
    assert calling.rescue() == []
    assert calling.states() == [("calling",)]


def test_an_answer_that_comes_when_the_call_counts_as_lost_is_billed_and_dropped(
    unhurried: Carpool, calling: Calling, producer: Producer
) -> None:
    # Given
    ids = pooled(unhurried, producer, "Hurry")
    calling.take_out(*ids)
    (claimed,) = calling.claim("slow")
    calling.rescue()
    calling.rescue()
    # When
    late = calling.answer_to(request("Hurry"))
    for _ in range(2):
        call_outcomes.record_answer(unhurried.engine, claimed, late, unhurried.announce)
    # Then
    assert state(unhurried, ids[0]) == ("discarded", "errored", "answer_lost")
    assert billed(unhurried)["real_time"][0] == 1
    assert calling.states() == [("lost",)]


def test_two_callers_never_make_the_same_call(
    unhurried: Carpool, calling: Calling, producer: Producer, simulator: RemoteSimulator
) -> None:
    ids = pooled(unhurried, producer, *(f"Question {n}" for n in range(40)))
    calling.take_out(*ids)
    # When
    threads = [Thread(target=calling.call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    calling.call()
    # Then
    assert unhurried.ended(40)
    assert set(calling.states()) == {("answered",)}
    ledger = simulator.ledger()
    assert (ledger["billed"], ledger["ran_twice_count"]) == (40, 0)


def test_no_more_calls_are_under_way_than_concurrency_allows(
    unhurried: Carpool, calling: Calling, producer: Producer
) -> None:
    ids = pooled(unhurried, producer, "One", "Two", "Three")
    calling.take_out(*ids)
    assert len(calling.claim("a", concurrency=2, lease_until=10**14)) == 2
    assert calling.claim("b", concurrency=2) == []


def test_a_request_that_is_canceled_is_not_called(
    unhurried: Carpool, calling: Calling, producer: Producer, simulator: RemoteSimulator
) -> None:
    ids = pooled(unhurried, producer, "Hurry", "Too")
    calling.take_out(*ids)
    # When
    assert canceler.request_all(unhurried.engine, "tests", 10**13) == 2
    calling.call()
    # Then
    assert {state(unhurried, one)[0] for one in ids} == {"canceled"}
    assert set(calling.states()) == {("canceled",)}
    assert simulator.ledger()["billed"] == 0


def test_calls_that_nobody_may_pay_for_any_more_go_back_into_the_pool(
    unhurried: Carpool, calling: Calling, producer: Producer
) -> None:
    ids = pooled(unhurried, producer, "Hurry")
    calling.take_out(*ids)
    calling.policy = replace(calling.policy, budgets={"others": Budget(day=Decimal(1))})
    calling.call()
    assert calling.states() == [("returned",)]
    assert state(unhurried, ids[0])[0] == "retryable"
