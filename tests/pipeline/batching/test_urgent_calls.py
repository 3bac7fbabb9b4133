"""What no batch would bring in time is called, as far as its client and its budget allow, and nothing else is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import pytest
import sqlalchemy as sa
from tests.fixtures.agents import MODEL, Carpool, request
from tests.fixtures.calls import ENOUGH, POLICY, Calling, calling
from tests.fixtures.plans import explained
from tests.fixtures.queries import load_batch

from carpool import Producer, Request
from carpool_worker.database import now, write
from carpool_worker.pipeline.batching import deadlines
from carpool_worker.policies.budgets import Budget
from carpool_worker.policies.deadlines import DeadlineRule
from carpool_worker.policies.real_time import RealTimePolicy
from carpool_worker.store import durations
from carpool_worker.units import SECOND, Milliseconds

__all__ = ["calling"]

RULE = DeadlineRule()
SOON = 600
NOT_SO_SOON = 7_200
HALF_AN_HOUR = 1_800


def given_batches_take_half_an_hour(engine: sa.Engine) -> None:
    with write(engine) as connection:
        for _ in range(20):
            durations.learn(connection, MODEL, now(), Milliseconds(HALF_AN_HOUR * SECOND))


def given_pooled(carpool: Carpool, producer: Producer, *wanted: Request) -> Sequence[str]:
    given_batches_take_half_an_hour(carpool.engine)
    ids = producer.enqueue_many(wanted)
    carpool.aggregate()
    return ids


def urgent(text: str = "Hurry", deadline: float = SOON) -> Request:
    return Request(request(text), deadline=deadline)


def call_urgent(carpool: Carpool, policy: RealTimePolicy = POLICY) -> list[str]:
    return deadlines.call_urgent(carpool.engine, RULE, policy).queued


def batch_of(carpool: Carpool, request_id: str) -> str:
    return str(carpool.rows(f"SELECT batch_id FROM requests WHERE id = id_of('{request_id}')")[0][0])


def test_what_waits_for_another_try_is_called_when_no_batch_would_be_in_time(
    unhurried: Carpool, calling: Calling, producer: Producer
) -> None:
    # Given requests that failed and wait for another try: one is due soon, one is not, one may only go in a batch
    wanted = (urgent("Hurry"), urgent("No", NOT_SO_SOON), replace_policy(urgent("Half"), "batch"))
    ids = given_pooled(unhurried, producer, *wanted)
    unhurried.change(
        f"UPDATE requests SET state = 'retryable', retry_at = {now() + 3_600_000}, outcome = 'errored'"
    )
    unhurried.change("UPDATE batches SET request_count = 0")
    # When
    called = call_urgent(unhurried)
    # Then
    assert called == [ids[0]]
    assert call_urgent(unhurried) == []
    calling.call()
    states = dict(unhurried.rows("SELECT id, state FROM requests"))
    assert [states[one] for one in ids] == ["completed", "retryable", "retryable"]


def test_what_would_be_late_leaves_its_batch_and_the_others_stay(
    unhurried: Carpool, calling: Calling, producer: Producer
) -> None:
    # Given a batch with two requests that no batch brings in time, and two that one does
    ids = given_pooled(
        unhurried, producer, urgent(), urgent("No", NOT_SO_SOON), urgent("Now", SOON - 1), Request(request())
    )
    batch_id = batch_of(unhurried, ids[1])

    # When
    called = call_urgent(unhurried)

    # Then they are called, and the batch has two requests, and the deadline of the one that has one
    assert set(called) == {ids[0], ids[2]}
    batch = load_batch(unhurried.engine, batch_id)
    assert batch.request_count == 2
    assert batch.deadline is not None
    assert (batch.deadline - now()) / SECOND == pytest.approx(NOT_SO_SOON, abs=60)
    assert call_urgent(unhurried) == []

    # When they are called, Then they are answered, and the others wait
    calling.call()
    states = unhurried.rows("SELECT state, count(*) FROM requests GROUP BY state ORDER BY state")
    assert [tuple(row) for row in states] == [("batched", 2), ("completed", 2)]


def test_without_real_time_money_nothing_is_called(unhurried: Carpool, producer: Producer) -> None:
    given_pooled(unhurried, producer, urgent())

    assert call_urgent(unhurried, RealTimePolicy()) == []


def test_what_its_client_does_not_pay_for_or_has_canceled_or_is_late_anyway_stays(
    unhurried: Carpool, producer: Producer
) -> None:
    # Given
    cheap = replace_policy(urgent("cheap"), "batch")
    ids = given_pooled(unhurried, producer, cheap, urgent("canceled"), urgent("late"), Request(request()))
    unhurried.change(f"UPDATE requests SET cancel_requested_at = 1 WHERE id = id_of('{ids[1]}')")
    unhurried.change(f"UPDATE requests SET deadline = 1 WHERE id = id_of('{ids[2]}')")
    unhurried.change("UPDATE batches SET deadline = 1")

    # Then
    assert call_urgent(unhurried) == []


def replace_policy(one: Request, policy: str) -> Request:
    return Request(one.params, deadline=one.deadline, deadline_policy=policy)  # type: ignore[arg-type]


def test_what_anthropic_has_is_called_once_if_its_client_pays_again_and_little_is_left(
    unhurried: Carpool, calling: Calling, producer: Producer
) -> None:
    # Given a batch at Anthropic with requests that are due in a minute, or in ten
    again = [replace_policy(urgent(str(wait), wait), "pay_again") for wait in (60, SOON)]
    ids = given_pooled(unhurried, producer, *again, urgent("once", 60))
    unhurried.change("UPDATE batches SET state = 'sealed', sealed_at = 1")
    unhurried.submit()
    assert unhurried.rows("SELECT state FROM batches") == [("in_progress",)]

    # Then
    assert call_urgent(unhurried) == [ids[0]]
    assert call_urgent(unhurried) == []


def test_no_more_are_called_than_the_rate_limit_allows_and_a_client_without_money_stops_nobody(
    unhurried: Carpool, producer: Producer
) -> None:
    # Given five requests of a client that has no money, and five of one that has, which are less urgent
    given_batches_take_half_an_hour(unhurried.engine)
    for client, wait in (("poor", SOON - 60), ("rich", SOON)):
        with Producer(producer_url(producer), client=client) as own:
            own.enqueue_many([urgent(str(number), wait) for number in range(5)])
    unhurried.aggregate()
    policy = RealTimePolicy(budgets={"rich": ENOUGH, "poor": Budget(day=Decimal("0.000001"))}, per_minute=3)

    # When
    called = call_urgent(unhurried, policy)

    # Then
    clients = unhurried.rows("SELECT client FROM real_time_calls")
    assert [row.client for row in clients] == ["rich"] * 3
    assert len(called) == 3
    assert call_urgent(unhurried, policy) == []
    assert len(call_urgent(unhurried, replace(policy, per_minute=60))) == 2


def producer_url(producer: Producer) -> str:
    return producer._options.url


def test_its_statements_go_by_indexes(unhurried: Carpool, producer: Producer) -> None:
    given_pooled(unhurried, producer, urgent(), urgent("No", NOT_SO_SOON))

    with explained(unhurried.engine) as plans:
        call_urgent(unhurried)
        unhurried.aggregate()

    assert plans.whole == {}
