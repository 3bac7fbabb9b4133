"""Budgets: what is reserved, held, refused and released, on both databases and with everything else that happens."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from threading import Barrier, BrokenBarrierError
from typing import Any

import pytest
import sqlalchemy as sa
from tests.fixtures.agents import IN_AN_HOUR, Carpool, request
from tests.fixtures.budgets import EACH, given_enqueued, held
from tests.fixtures.inbox import append, envelope, packs
from tests.fixtures.queries import LEDGER, answer_bodies, requests_by_state

from carpool import Producer, Webhook
from carpool.exceptions import WaitTimeout
from carpool_worker.app import app as celery
from carpool_worker.database import read, write
from carpool_worker.pipeline.batching import aggregator, budgeter
from carpool_worker.pipeline.collection import conclusions
from carpool_worker.pipeline.delivery import courier
from carpool_worker.policies.budgets import Budget, Over
from carpool_worker.settings import read_settings
from carpool_worker.simulator import RemoteSimulator, Script
from carpool_worker.store import usage
from carpool_worker.store.requests import reservations
from carpool_worker.store.usage import UsageRow
from carpool_worker.units import DOLLAR, SECOND


def for_requests(count: float, **fields: Any) -> dict[str, Budget]:
    return {"tests": Budget(day=EACH * Decimal(count), **fields)}


def assert_exactly_what_has_not_ended_is_reserved(carpool: Carpool) -> None:
    query = "SELECT state, estimate IS NOT NULL, finished_at IS NULL FROM requests"
    assert all(reserved == unfinished for _, reserved, unfinished in carpool.rows(query))
    assert carpool.rows("SELECT 1 FROM requests WHERE held_at IS NOT NULL AND state <> 'retryable'") == []


def given_spent(carpool: Carpool, amount: Decimal, day: date) -> None:
    used = UsageRow(day.isoformat(), "tests", "another-model", requests=1, cost=int(amount * DOLLAR))
    with write(carpool.engine) as connection:
        usage.add(connection, [used])


def today() -> date:
    return datetime.now(UTC).date()


def test_requests_over_budget_wait_and_go_in_order_when_a_new_day_begins(
    carpool: Carpool, producer: Producer
) -> None:
    # Given a budget for two requests a day that is spent, and four of them
    carpool.budgets = for_requests(2.5)
    given_spent(carpool, EACH * 2, today())
    ids = given_enqueued(carpool, producer, 4)
    carpool.go_round()
    assert (requests_by_state(carpool.engine), held(carpool)) == ({"retryable": 4}, ids)

    # When a new day begins
    for table in ("usage", "usage_entries"):
        carpool.change(f"UPDATE {table} SET day = '2001-01-01'")
    carpool.stage()

    # Then as many go as fit, those that have waited the longest; in the end each is answered as any other
    assert held(carpool) == ids[2:]
    carpool.until(lambda: carpool.ended(4))
    assert carpool.rows("SELECT DISTINCT state, attempt FROM requests") == [("completed", 1)]
    assert_exactly_what_has_not_ended_is_reserved(carpool)


def test_answers_that_cost_less_than_estimated_make_room_for_what_waits(
    carpool: Carpool, producer: Producer
) -> None:
    carpool.budgets = for_requests(2.5)
    given_enqueued(carpool, producer, 4)

    carpool.until(lambda: carpool.ended(4))

    [spent] = carpool.rows(f"SELECT sum(cost) AS cost FROM {LEDGER}")
    assert 0 < spent.cost <= EACH * Decimal("2.5") * DOLLAR


def test_what_comes_later_queues_behind_what_waits_even_where_it_would_fit(
    carpool: Carpool, producer: Producer
) -> None:
    carpool.budgets = for_requests(2.5)
    big = producer.enqueue(request("1" * 700))  # some two requests' worth
    first = given_enqueued(carpool, producer, 1)[0]
    [second] = given_enqueued(carpool, producer, 1)

    assert held(carpool) == [first, second]
    assert [row.id for row in carpool.rows("SELECT id FROM requests WHERE state = 'batched'")] == [big]


def test_a_month_limits_as_a_day_does(carpool: Carpool, producer: Producer) -> None:
    carpool.budgets = {"tests": Budget(day=Decimal(5), month=EACH * Decimal("2.5"))}
    given_spent(carpool, EACH, today().replace(day=1))
    given_spent(carpool, EACH * 9, date(2001, 1, 1))

    ids = given_enqueued(carpool, producer, 2)

    assert held(carpool) == ids[1:]


def test_each_client_has_the_default_budget_by_itself_and_other_models_than_priced_ones_no_limit(
    carpool: Carpool, producer: Producer, redis_url: str
) -> None:
    carpool.budgets = {"default": Budget(day=EACH * Decimal("1.5"))}
    producer.enqueue_many([request("1"), request("2"), request("3", "claude-of-tomorrow")])
    with Producer(redis_url, client="another") as other:
        other.enqueue_many([request("1"), request("2")])

    carpool.aggregate()

    waiting = carpool.rows("SELECT client, count(*) FROM requests WHERE held_at IS NOT NULL GROUP BY client")
    assert sorted(map(tuple, waiting)) == [("another", 1), ("tests", 1)]
    assert requests_by_state(carpool.engine) == {"batched": 3, "retryable": 2}


def test_what_is_refused_brings_the_reason_to_its_webhook_and_to_a_waiting_producer(
    carpool: Carpool, producer: Producer, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a client whose budget refuses what is over it
    carpool.budgets = for_requests(1.5, over=Over.REFUSE)
    _, id_ = given_enqueued(carpool, producer, 2, callback=Webhook(receiver.url("/hook")), metadata={"n": 1})

    # When the delivery is made
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    courier.deliver(
        carpool.engine,
        celery,
        read_settings(webhook_secret=[secret], webhook_allowed_networks=["127.0.0.0/8"]),
    )

    # Then
    [(headers, body)] = receiver.posts["/hook"]
    told = json.loads(body)
    assert (headers["webhook-id"], told["type"]) == (id_, "request.discarded")
    assert told["data"]["error"]["type"] == "budget_exceeded"
    said = r"client tests is over its budget: \$(.*) a day, \$(.*) spent or reserved, .* estimated at \$(.*)"
    told_of = re.fullmatch(said, told["data"]["error"]["message"])
    assert told_of
    limit, taken, estimated = map(float, told_of.groups())
    assert taken + estimated > limit > taken > 0
    assert (told["data"]["outcome"], told["data"]["metadata"]) == ("errored", {"n": 1})
    assert requests_by_state(carpool.engine) == {"batched": 1, "discarded": 1}
    assert_exactly_what_has_not_ended_is_reserved(carpool)


def test_a_request_that_alone_costs_more_than_the_budget_is_refused_at_once(
    carpool: Carpool, producer: Producer
) -> None:
    carpool.budgets = for_requests(0.5)
    given_enqueued(carpool, producer, 1)

    [row] = carpool.rows("SELECT id, state, outcome, attempt FROM requests")
    assert (row.state, row.outcome, row.attempt) == ("discarded", "errored", 0)
    assert b"budget_exceeded" in answer_bodies(carpool.engine)[row.id]


@pytest.mark.parametrize("max_tokens", ["1e400", "9" * 5_000])
def test_what_no_estimate_can_read_is_pooled_and_nothing_waits_behind_it(
    carpool: Carpool, producer: Producer, max_tokens: str
) -> None:
    carpool.budgets = for_requests(100)
    append(carpool.server, envelope(1, params=b'{"max_tokens":%b}' % max_tokens.encode()))

    given_enqueued(carpool, producer, 1)

    assert requests_by_state(carpool.engine) == {"batched": 2}


def test_what_waits_is_refused_once_the_budget_was_cut_below_it_and_released_once_there_is_none(
    carpool: Carpool, producer: Producer
) -> None:
    carpool.budgets = for_requests(1.5)
    ids = given_enqueued(carpool, producer, 3)
    assert budgeter.release(carpool.engine, for_requests(1.5)) == []

    # When the budget is cut, then taken away
    assert budgeter.release(carpool.engine, for_requests(0.5)) == ids[1:]
    assert requests_by_state(carpool.engine) == {"batched": 1, "discarded": 2}
    carpool.budgets = for_requests(1.5)
    waiting = given_enqueued(carpool, producer, 2)
    assert held(carpool) == waiting
    carpool.budgets = {}
    carpool.until(lambda: carpool.ended(5))

    assert requests_by_state(carpool.engine) == {"completed": 3, "discarded": 2}
    assert_exactly_what_has_not_ended_is_reserved(carpool)


def test_reservations_are_of_what_has_not_ended_through_retries_cancellations_discards_and_lost_posts(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given requests that end in every way there is
    simulator.script(
        Script(contains="flaky", outcome="errored", error_type="overloaded_error", times=1),
        Script(contains="wrong", outcome="errored", error_type="invalid_request_error"),
    )
    carpool.budgets = for_requests(6)
    ids = [producer.enqueue(request(text)) for text in ("flaky", "wrong", "fine", "a", "b", "c", "d", "e")]
    carpool.aggregate()
    assert len(held(carpool)) >= 2

    # When some are canceled: one in its batch, one that waits for the budget
    producer.cancel(ids[3], ids[-1])
    carpool.aggregate()
    assert carpool.rows("SELECT count(*) AS n FROM requests WHERE state = 'canceled'")[0].n == 2
    assert_exactly_what_has_not_ended_is_reserved(carpool)

    def ended() -> bool:
        assert_exactly_what_has_not_ended_is_reserved(carpool)
        return carpool.ended(8)

    carpool.until(ended)
    assert requests_by_state(carpool.engine) == {"canceled": 2, "completed": 5, "discarded": 1}
    with read(carpool.engine) as connection:
        [standing] = reservations.balances(connection, carpool.budgets, 0).values()
    assert standing.reserved == 0


def test_answers_that_cant_be_priced_take_from_the_budget_what_was_reserved_for_them(
    carpool: Carpool, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given answers whose price nobody knows
    monkeypatch.setattr(conclusions, "price_of", lambda *_: None)
    carpool.budgets = for_requests(2.5)
    given_enqueued(carpool, producer, 2)
    reserved = sum(row.estimate for row in carpool.rows("SELECT estimate FROM requests"))

    # When they have come
    carpool.until(lambda: carpool.ended(2))

    # Then the ledger counts them as unpriced, and the budget as what they may have cost
    with read(carpool.engine) as connection:
        [used] = usage.totals(connection, ["client"])
        [standing] = reservations.balances(
            connection, carpool.budgets, int(datetime.now(UTC).timestamp() * SECOND)
        ).values()
    assert (used.requests, used.unpriced) == (2, 2)
    assert (standing.reserved, standing.spent["day"]) == (0, reserved)
    given_enqueued(carpool, producer, 1)
    assert len(held(carpool)) == 1


def test_a_producer_keeps_waiting_for_a_held_request_and_can_cancel_it_like_any_other(
    carpool: Carpool, producer: Producer
) -> None:
    carpool.budgets = for_requests(1.5)
    _, waiting = given_enqueued(carpool, producer, 2)
    with pytest.raises(WaitTimeout):
        producer.wait(waiting, timeout=0.05)

    producer.cancel_all()
    carpool.aggregate()

    assert requests_by_state(carpool.engine) == {"canceled": 2}
    assert_exactly_what_has_not_ended_is_reserved(carpool)


def let_nobody_act_before_all_have_looked(monkeypatch: pytest.MonkeyPatch, parties: int) -> None:
    """As far as the database lets them look at once."""
    look, together = reservations.balances, Barrier(parties, timeout=0.5)

    def look_together(*arguments: Any) -> Any:
        seen = look(*arguments)
        with suppress(BrokenBarrierError):
            together.wait()
        return seen

    monkeypatch.setattr(reservations, "balances", look_together)


def test_aggregators_at_once_never_reserve_the_same_room(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given three that read the balance at the same moment, each with four requests, and room for ten
    let_nobody_act_before_all_have_looked(monkeypatch, 3)
    params = json.dumps(request("1")).encode()
    chunks = [packs([envelope(4 * n + i, params=params) for i in range(4)]) for n in range(3)]

    # When
    with ThreadPoolExecutor(3) as pool:
        budgets = for_requests(10.5)
        for done in [pool.submit(aggregator.pool, engine, chunk, IN_AN_HOUR, budgets) for chunk in chunks]:
            done.result()

    # Then
    with read(engine) as connection:
        counted = connection.execute(sa.text("SELECT state, count(*) FROM requests GROUP BY state")).all()
    assert dict(map(tuple, counted)) == {"batched": 10, "retryable": 2}


def test_an_aggregator_and_the_budgeter_at_once_never_reserve_the_same_room(
    carpool: Carpool, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given one that waits, room for one by now, and another one that comes under a budget that lets it overtake
    carpool.budgets = for_requests(1.5)
    given_enqueued(carpool, producer, 2)
    carpool.change("UPDATE requests SET estimate = NULL WHERE state = 'batched'")
    let_nobody_act_before_all_have_looked(monkeypatch, 2)
    params = json.dumps(request("1")).encode()
    agents: list[Callable[[], Any]] = [
        lambda: budgeter.release(carpool.engine, for_requests(1.5)),
        lambda: aggregator.pool(
            carpool.engine,
            packs([envelope(1, params=params)]),
            IN_AN_HOUR,
            for_requests(1.5, over=Over.REFUSE),
        ),
    ]
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(agent) for agent in agents]:
            done.result()

    reserved = carpool.rows("SELECT id FROM requests WHERE estimate IS NOT NULL AND held_at IS NULL")
    assert len(reserved) == 1
