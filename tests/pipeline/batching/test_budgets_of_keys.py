"""Budgets of the gateway's keys, beside those of their clients: what is held, refused and released."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from tests.fixtures.agents import Carpool, request
from tests.fixtures.budgets import EACH
from tests.fixtures.command_line import succeeded
from tests.fixtures.inbox import append, envelope
from tests.fixtures.queries import answer_bodies, requests_by_state

from carpool_worker.database import now, read
from carpool_worker.operations import keys
from carpool_worker.policies.budgets import Budget
from carpool_worker.store import gateway_keys, usage
from carpool_worker.store.requests import reservations
from carpool_worker.units import DOLLAR


def given_key(carpool: Carpool, name: str, count: float, **fields: Any) -> None:
    """A key whose budget is for so many requests a day."""
    given = {"client": "tests", "name": name, "day": str(EACH * Decimal(count))} | fields
    keys.create(carpool.engine, given, actor="tests")


def given_enqueued(carpool: Carpool, *names: str | None) -> None:
    """A request with each of these keys; their numbers go on from those before."""
    [before] = carpool.rows("SELECT count(*) AS n FROM requests")
    for number, name in enumerate(names, before.n + 1):
        params = json.dumps(request(f"{number % 10}")).encode()
        append(carpool.server, envelope(number, params=params, gateway_key=name))
    carpool.aggregate()


def held(carpool: Carpool) -> list[str | None]:
    """The keys of held requests, those that came first before the others."""
    query = (
        "SELECT gateway_key FROM requests JOIN segments ON segments.id = requests.segment_id "
        "WHERE held_at IS NOT NULL ORDER BY held_at, requests.id"
    )
    return [row.gateway_key for row in carpool.rows(query)]


def test_a_key_waits_for_its_own_budget_and_no_other_waits_for_it(carpool: Carpool) -> None:
    # Given a key with a budget for two requests, one without, and a client with a budget for many
    carpool.budgets = {"tests": Budget(day=EACH * 100)}
    given_key(carpool, "nightly", 2.5, over="wait")
    given_key(carpool, "daily", 100, over="wait")

    # When three come with it, and then others
    given_enqueued(carpool, "nightly", "nightly", "nightly")
    assert held(carpool) == ["nightly"]
    given_enqueued(carpool, "daily", None, "nightly")
    carpool.stage()

    # Then the others go
    assert held(carpool) == ["nightly", "nightly"]

    # When answers have freed what was reserved for them, Then those go too
    carpool.until(lambda: carpool.ended(6))
    with read(carpool.engine) as connection:
        [used] = usage.totals(connection, ["key"], key="nightly")
    assert (used.gateway_key, used.requests) == ("nightly", 4)
    assert 0 < used.cost <= EACH * Decimal("2.5") * DOLLAR


def test_what_is_over_a_keys_budget_is_refused_with_the_keys_name(carpool: Carpool) -> None:
    given_key(carpool, "nightly", 1.5)

    given_enqueued(carpool, "nightly", "nightly", None)

    assert requests_by_state(carpool.engine) == {"batched": 2, "discarded": 1}
    [refused] = carpool.rows("SELECT id FROM requests WHERE state = 'discarded'")
    answer = answer_bodies(carpool.engine)[refused.id]
    assert b"budget_exceeded" in answer
    assert b"key nightly is over its budget: $" in answer


def test_a_key_and_its_client_both_pay(carpool: Carpool) -> None:
    # Given a client whose budget is for less than its key's
    carpool.budgets = {"tests": Budget(day=EACH * Decimal("1.5"))}
    given_key(carpool, "nightly", 10, over="wait")

    given_enqueued(carpool, "nightly", "nightly")

    # Then the second waits for the client's, and is reserved from neither
    assert held(carpool) == ["nightly"]
    with read(carpool.engine) as connection:
        at = now()
        [mine] = reservations.balances(connection, carpool.budgets, at).values()
        [of_key] = reservations.key_balances(
            connection, gateway_keys.all_with_budgets(connection), at
        ).values()
    assert 0 < mine.reserved == of_key.reserved < EACH * Decimal("1.5") * DOLLAR


def test_without_budgets_again_what_was_held_goes(carpool: Carpool) -> None:
    given_key(carpool, "nightly", 1.5, over="wait")
    given_enqueued(carpool, "nightly", "nightly", "nightly")
    assert len(held(carpool)) == 2

    keys.change(carpool.engine, "nightly", {"day": None}, actor="tests")

    carpool.until(lambda: carpool.ended(3))
    assert requests_by_state(carpool.engine) == {"completed": 3}


def test_a_budget_that_is_cut_refuses_what_it_can_never_pay(carpool: Carpool) -> None:
    given_key(carpool, "nightly", 1.5, over="wait")
    given_enqueued(carpool, "nightly", "nightly")

    keys.change(carpool.engine, "nightly", {"day": str(EACH / 2)}, actor="tests")
    carpool.stage()

    assert requests_by_state(carpool.engine) == {"batched": 1, "discarded": 1}


def test_a_held_request_says_that_it_waits_for_its_keys_budget(carpool: Carpool, command_line: None) -> None:
    given_key(carpool, "nightly", 1.5, over="wait")
    given_enqueued(carpool, "nightly", "nightly")
    [waiting] = carpool.rows("SELECT id FROM requests WHERE held_at IS NOT NULL")

    shown = " ".join(succeeded("requests", "show", waiting.id).split())

    assert "waiting for: the key nightly's budget: $" in shown
