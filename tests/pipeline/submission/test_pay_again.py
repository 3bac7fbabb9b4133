"""Requests that Anthropic has in a batch and that are called as well, as their clients will pay again."""

from __future__ import annotations

from tests.fixtures.agents import Carpool, request
from tests.fixtures.calls import Calling, billed, calling, in_progress, state

from carpool import Producer
from carpool_worker.pipeline.submission import call_outcomes
from carpool_worker.simulator import Fault, RemoteSimulator, Script

__all__ = ["calling"]


def test_whichever_answer_comes_first_is_delivered_once_and_both_are_billed(
    unhurried: Carpool, calling: Calling, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given
    (wanted,) = in_progress(unhurried, producer, "Hurry")
    # When the call is faster
    assert calling.call_again(wanted).queued == [wanted]
    assert calling.call_again(wanted).queued == []  # never twice
    calling.call()
    assert state(unhurried, wanted) == ("completed", "succeeded", None)
    unhurried.until_polled("ended")
    unhurried.collect()
    unhurried.collect()
    # Then
    assert unhurried.rows("SELECT sum(pending) FROM deliveries") == [(1,)]
    assert unhurried.rows("SELECT state FROM batches") == [("completed",)]
    full, half = billed(unhurried)["real_time"], billed(unhurried)["batch"]
    assert full[0] == half[0] == 1
    assert full[1] == full[2] > half[1] > 0
    assert half[2] == 0  # it saved nothing
    assert unhurried.rows("SELECT cost FROM requests") == [(full[1] + half[1],)]
    assert simulator.ledger()["billed"] == 2


def test_a_call_that_is_slower_than_the_batch_is_billed_and_dropped(
    unhurried: Carpool, calling: Calling, producer: Producer
) -> None:
    (wanted,) = in_progress(unhurried, producer, "Hurry")
    calling.call_again(wanted)
    (claimed,) = calling.claim("slow", lease_until=10**13)
    # When
    unhurried.until_polled("ended")
    unhurried.collect()
    call_outcomes.record_answer(
        unhurried.engine, claimed, calling.answer_to(request("Hurry")), unhurried.announce
    )
    # Then
    assert unhurried.rows("SELECT sum(pending) FROM deliveries") == [(1,)]
    full, half = billed(unhurried)["real_time"], billed(unhurried)["batch"]
    assert (full[0], full[2], half[0]) == (1, 0, 1)
    assert unhurried.rows("SELECT cost FROM requests") == [(full[1] + half[1],)]
    assert calling.states() == [("answered",)]


def test_a_lost_call_of_a_request_in_a_batch_waits_for_the_batch(
    unhurried: Carpool, calling: Calling, producer: Producer, simulator: RemoteSimulator
) -> None:
    (wanted,) = in_progress(unhurried, producer, "Hurry")
    simulator.arm(Fault(operation="messages", kind="lost"))
    calling.call_again(wanted)
    calling.call()
    assert calling.states() == [("lost",)]
    unhurried.until_polled("ended")
    unhurried.collect()
    assert state(unhurried, wanted) == ("completed", "succeeded", None)
    assert unhurried.rows("SELECT sum(pending) FROM deliveries") == [(1,)]


def test_a_batch_that_does_not_answer_leaves_the_request_to_its_call(
    unhurried: Carpool, calling: Calling, producer: Producer, simulator: RemoteSimulator
) -> None:
    simulator.script(Script(outcome="errored", times=1))
    (wanted,) = in_progress(unhurried, producer, "Hurry")
    calling.call_again(wanted)
    unhurried.until_polled("ended")
    unhurried.collect()
    assert state(unhurried, wanted)[0] == "batched"
    calling.call()
    assert state(unhurried, wanted) == ("completed", "succeeded", None)
    assert list(billed(unhurried)) == ["real_time"]
