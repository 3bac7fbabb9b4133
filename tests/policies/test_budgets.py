"""Whether a request is within its client's budget, and what it is estimated at: pure decisions."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from carpool_worker.money.costs import Tokens, price_of
from carpool_worker.money.estimates import BYTES_A_TOKEN, MOST_TOKENS, estimate, tokens_of
from carpool_worker.policies.budgets import Budget, BudgetBalance, budget_of, reason, waits_for
from carpool_worker.units import DOLLAR

TODAY = date(2026, 11, 22)
HAIKU = "claude-haiku-4-5"
CENT = DOLLAR // 100

amounts = st.integers(0, 10 * DOLLAR)


def budget(day: str | None = None, month: str | None = None, **fields: Any) -> Budget:
    return Budget.model_validate({"day": day, "month": month, **fields})


def balance(of: Budget, day: int = 0, month: int = 0, reserved: int = 0) -> BudgetBalance:
    return BudgetBalance(of, {"day": day, "month": month}, reserved)


@given(amounts, amounts, amounts)
def test_there_is_room_for_what_neither_the_day_nor_the_month_has_taken(
    day: int, earlier: int, reserved: int
) -> None:
    both = balance(budget("5", "8"), day, day + earlier, reserved)

    of_day = balance(budget(day="5"), day, day + earlier, reserved).room
    of_month = balance(budget(month="8"), day, day + earlier, reserved).room
    assert both.room == min(of_day, of_month)
    assert of_day == 5 * DOLLAR - day - reserved
    assert of_month == 8 * DOLLAR - day - earlier - reserved


def test_the_reason_names_the_tightest_limit_what_is_taken_and_what_was_asked_for() -> None:
    taken = balance(budget("5", "100"), day=4 * DOLLAR, month=9 * DOLLAR, reserved=99 * CENT)

    assert reason("client billing", taken, 3 * CENT) == (
        "client billing is over its budget: $5.00 a day, $4.99 spent or reserved, "
        "this request is estimated at $0.03"
    )
    assert waits_for(taken, 3 * CENT).endswith(
        "$0.03; free again at 00:00 UTC, or as answers cost less than estimated"
    )


def test_the_reason_for_what_can_never_be_afforded_names_only_the_limits() -> None:
    assert reason("client billing", balance(budget("5", "100"), day=DOLLAR), 7 * DOLLAR) == (
        "client billing is over its budget: $5.00 a day and $100.00 a month, this request is estimated at $7.00"
    )


def test_a_client_without_a_budget_of_its_own_has_the_default_and_else_none() -> None:
    own, default = budget("1"), budget("2")

    assert budget_of({"billing": own, "default": default}, "billing") is own
    assert budget_of({"billing": own, "default": default}, "search") is default
    assert budget_of({"billing": own}, "search") is None


@pytest.mark.parametrize(
    "given", [{}, {"day": 0}, {"day": "nan"}, {"week": 5}, {"day": 5, "over": "perhaps"}]
)
def test_a_budget_that_limits_nothing_or_makes_no_sense_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Budget.model_validate(given)


def test_an_estimate_is_the_batch_price_of_the_text_and_of_all_that_may_be_answered() -> None:
    params = json.dumps({"model": HAIKU, "max_tokens": 1_000, "messages": "x" * 3_000}).encode()

    price = price_of(Tokens(input_tokens=len(params) // 3, output_tokens=1_000), HAIKU, TODAY)
    assert price is not None
    assert estimate(HAIKU, params, TODAY) == price.cost


def test_a_model_without_a_known_price_has_no_estimate() -> None:
    assert estimate("claude-of-tomorrow", b'{"max_tokens":1}', TODAY) is None


def test_an_image_counts_as_one_and_not_as_text() -> None:
    data = "A" * 500_000
    params = json.dumps({"max_tokens": 9, "source": {"type": "base64", "data": data}}).encode()

    assert 1_600 <= tokens_of(params).input_tokens <= 15_000


@pytest.mark.parametrize(
    ("said", "counted"),
    [
        ('"max_tokens": 7', 7),
        ('"max_tokens": "7"', 0),
        ('"max_tokens": -7', 0),
        ('"other": 7', 0),
        ('"max_tokens": 7.0', 7),
        ('"max_tokens": 1' + "0" * 30, MOST_TOKENS),
        ('"max_tokens": 1e400', 0),
        ('"max_tokens": ' + "9" * 5_000, 0),
        ('"max_tokens": ' + "[" * 5_000 + "]" * 5_000, 0),
    ],
)
def test_a_max_tokens_that_anthropic_will_refuse_does_no_harm(said: str, counted: int) -> None:
    assert tokens_of(f"{{{said}}}".encode()).output_tokens == counted


@pytest.mark.parametrize(
    ("mark", "percent"),
    [
        (b'"cache_control":{"type":"ephemeral"}', 125),
        (b'"cache_control": {"type":"ephemeral","ttl": "1h"}', 200),
        (b'"text":"say \\"cache_control\\":{\\"ttl\\":\\"1h\\"}"', 100),
    ],
)
def test_what_a_client_marks_for_the_cache_is_estimated_as_written_there(mark: bytes, percent: int) -> None:
    # Given params of nothing but a prompt
    params = b'{"max_tokens":0,"system":[{%b,"text":"%b"}]}' % (mark, b"x" * 60_000)
    plain = price_of(Tokens(len(params) // BYTES_A_TOKEN, 0), HAIKU, TODAY)

    assert plain
    assert estimate(HAIKU, params, TODAY) == plain.cost * percent // 100


def test_what_is_to_run_within_the_us_is_estimated_at_a_tenth_more() -> None:
    params = b'{"max_tokens":1000,"inference_geo":"us"}'
    price = price_of(tokens_of(params), HAIKU, TODAY)

    assert price
    elsewhere = price_of(msgspec.structs.replace(tokens_of(params), inference_geo=None), HAIKU, TODAY)
    assert elsewhere
    assert price.cost == elsewhere.cost * 110 // 100
