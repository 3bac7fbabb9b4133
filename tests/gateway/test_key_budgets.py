"""A key's budget at the door: used up it is a 402, which nobody repeats, and nothing stays behind."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import anthropic
import pytest
import sqlalchemy as sa
from tests.fixtures.agents import request
from tests.fixtures.budgets import EACH
from tests.fixtures.gateway import ON_BOTH, RunGateway, WorkingCarpool, at_work, new_key
from tests.fixtures.gateway_calls import Reply, begun, call, post, sdk
from tests.fixtures.waiting import until

from carpool_worker.operations import keys
from carpool_worker.policies.budgets import Budget
from carpool_worker.simulator import RemoteSimulator


def key_for(engine: sa.Engine, count: float, **terms: Any) -> str:
    """A key whose budget is for so many of these tests' requests a day."""
    return new_key(engine, day=str(EACH * Decimal(count)), **terms)


def given_accepted(gateway: str, secret: str, text: str, **headers: str) -> Reply:
    return post(gateway, secret, request(text), prefer="respond-async", **headers)


@ON_BOTH
def test_what_is_over_the_keys_budget_is_refused_and_not_tried_again(
    gateway: str, gateway_engine: sa.Engine, working_carpool: WorkingCarpool, simulator: RemoteSimulator
) -> None:
    secret = key_for(gateway_engine, 0.5)

    with sdk(gateway, secret) as client, pytest.raises(anthropic.APIStatusError) as refused:
        client.messages.create(**request("1"))

    assert (refused.value.status_code, refused.value.type) == (402, "billing_error")
    assert "key tests is over its budget: $" in refused.value.message
    assert simulator.ledger()["billed"] == 0
    assert working_carpool.rows("SELECT count(*) FROM requests") == [(0,)]


def test_what_this_gateway_has_let_in_counts_before_the_tables_know_it(
    run_gateway: RunGateway, gateway_engine: sa.Engine, idle_carpool: WorkingCarpool
) -> None:
    secret = key_for(gateway_engine, 2.5)

    with run_gateway() as gateway:
        replies = [given_accepted(gateway, secret, f"{number}") for number in range(4)]

        assert [reply.status for reply in replies] == [202, 202, 402, 402]
        assert replies[2].error_type == "billing_error"
        assert replies[2].headers["x-should-retry"] == "false"
        assert idle_carpool.queued() == 2

        # When the budget is raised, Then the same call is a new request, as nothing was left behind by the refused one
        keys.change(gateway_engine, "tests", {"day": str(EACH * 10)}, actor="tests")
        until(lambda: given_accepted(gateway, secret, "3").status == 202)


def test_a_refused_idempotency_key_is_as_if_it_had_never_come(
    run_gateway: RunGateway, gateway_engine: sa.Engine, idle_carpool: WorkingCarpool
) -> None:
    secret = key_for(gateway_engine, 1.5)

    with run_gateway() as gateway:
        assert given_accepted(gateway, secret, "1", idempotency_key="one").status == 202
        assert given_accepted(gateway, secret, "2", idempotency_key="two").status == 402
        assert given_accepted(gateway, secret, "3", idempotency_key="two").status == 402  # not a 422
        assert (
            given_accepted(gateway, secret, "2", idempotency_key="two").status == 402
        )  # not let in unchecked
        assert (
            given_accepted(gateway, secret, "1", idempotency_key="one").status == 202
        )  # it was let in before

    assert idle_carpool.rows("SELECT count(*) FROM requests") == [(0,)]


def test_a_call_that_was_let_in_gets_its_answer_though_the_budget_is_used_up_meanwhile(
    run_gateway: RunGateway,
    gateway_engine: sa.Engine,
    idle_carpool: WorkingCarpool,
    simulator: RemoteSimulator,
) -> None:
    # Given a call that hung up, and a budget that it has used up
    secret = key_for(gateway_engine, 1.5)
    with run_gateway() as gateway:
        body = b'{"model":"claude-haiku-4-5","max_tokens":16,"messages":[{"role":"user","content":"1"}]}'
        with begun(gateway, secret, "POST", "/v1/messages", body):
            until(lambda: idle_carpool.queued() == 1)
        until(lambda: bool(idle_carpool.orphans()))
        keys.change(gateway_engine, "tests", {"day": str(EACH / 10)}, actor="tests")

        # When it is made again, Then it adopts the request
        with at_work(idle_carpool):
            reply = call(gateway, secret, "POST", "/v1/messages", body)

    assert reply.status in (200, 402)  # the aggregator may have seen the cut first
    assert simulator.ledger()["billed"] == (1 if reply.status == 200 else 0)


def test_a_budget_that_lets_wait_refuses_only_what_it_could_never_pay(
    run_gateway: RunGateway, gateway_engine: sa.Engine, idle_carpool: WorkingCarpool
) -> None:
    secret = key_for(gateway_engine, 1.5, over="wait")

    with run_gateway() as gateway:
        assert [given_accepted(gateway, secret, f"{number}").status for number in range(3)] == [202] * 3
        large = post(gateway, secret, request("1") | {"max_tokens": 100_000}, prefer="respond-async")
        assert large.status == 402
    idle_carpool.aggregate()

    assert idle_carpool.rows("SELECT count(*) FROM requests WHERE held_at IS NOT NULL") == [(2,)]


def test_what_the_aggregator_refuses_is_a_402_as_well(
    gateway: str, gateway_engine: sa.Engine, idle_carpool: WorkingCarpool
) -> None:
    # Given a budget of the client, which only the aggregator knows
    secret = new_key(gateway_engine)
    idle_carpool.budgets = {"tests": Budget(day=EACH / 2)}

    with at_work(idle_carpool):
        reply = post(gateway, secret, request("1"))

    assert (reply.status, reply.error_type) == (402, "billing_error")
    assert "client tests is over its budget" in reply.json["error"]["message"]
