"""Prices of the settings take the place of the library's: discounts, and models that it does not know."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import pytest

from carpool_worker import settings
from carpool_worker.exceptions import SettingsInvalid
from carpool_worker.money.costs import CacheCreation, ServerTools, Tokens, price_of
from carpool_worker.money.estimates import estimate
from carpool_worker.money.overrides import PriceOverride, override_of, put_in_force
from carpool_worker.money.prices import Price
from carpool_worker.settings import read_settings
from carpool_worker.units import DOLLAR

TODAY = date(2026, 11, 22)
HAIKU, UNKNOWN = "claude-haiku-4-5", "our-own-model"
EVERYTHING = Tokens(
    1_000,
    2_000,
    7_000,
    5_000,
    CacheCreation(3_000, 4_000),
)


@pytest.fixture(autouse=True)
def _nothing_stays_in_force() -> Iterator[None]:
    yield
    put_in_force({})


def dollars(price: Price | None) -> tuple[Decimal, Decimal]:
    assert price is not None
    return Decimal(price.cost) / DOLLAR, Decimal(price.list_price) / DOLLAR


def test_a_model_that_nobody_knows_has_the_prices_of_the_settings() -> None:
    assert price_of(EVERYTHING, UNKNOWN, TODAY) is None

    put_in_force({UNKNOWN: PriceOverride(input=Decimal(3), output=Decimal(15))})

    # By hand: 3, 15, 0.3, 3.75 and 6 dollars per million
    by_hand = Decimal(1_000 * 3 + 2_000 * 15 + 3_000 * Decimal("3.75") + 4_000 * 6) + 5_000 * Decimal("0.3")
    assert dollars(price_of(EVERYTHING, UNKNOWN, TODAY)) == (by_hand / 2_000_000, by_hand / 1_000_000)
    assert estimate(UNKNOWN, b'{"max_tokens":1000}', TODAY) is not None
    assert price_of(Tokens(1, 1, server_tool_use=ServerTools(1)), UNKNOWN, TODAY) is None


def test_each_kind_has_its_own_price_where_one_is_given() -> None:
    rates = {
        "input": 1,
        "output": 2,
        "cache_read": 3,
        "cache_write": 4,
        "cache_write_1h": 5,
        "web_search": 6,
        "batch_discount": 20,
    }
    put_in_force({UNKNOWN: PriceOverride.model_validate(rates)})

    tokens = Tokens(10, 10, 20, 10, CacheCreation(10, 10), ServerTools(10))
    assert dollars(price_of(tokens, UNKNOWN, TODAY)) == (
        Decimal(150) / 1_000_000 * Decimal("0.8") + Decimal("0.06"),
        Decimal(150) / 1_000_000 + Decimal("0.06"),
    )


@pytest.mark.parametrize("percent", [0, 15, 33, 100])
def test_a_discount_is_on_all_that_a_known_model_costs(percent: int) -> None:
    put_in_force({})
    before = dollars(price_of(EVERYTHING, HAIKU, TODAY))

    put_in_force({"claude-*": PriceOverride(discount=Decimal(percent))})

    after = dollars(price_of(EVERYTHING, HAIKU, TODAY))
    assert after == tuple(amount * (100 - percent) / 100 for amount in before)
    assert price_of(EVERYTHING, UNKNOWN, TODAY) is None


def test_the_first_pattern_that_matches_counts() -> None:
    prices = {"claude-haiku-*": 10, "claude-*": 20, HAIKU: 30}
    put_in_force({model: PriceOverride(discount=Decimal(percent)) for model, percent in prices.items()})

    found = [override_of(model) for model in (HAIKU, "claude-opus-5", "haiku")]
    assert [one and one.discount for one in found] == [10, 20, None]


def test_an_answer_run_within_the_us_costs_a_tenth_more() -> None:
    put_in_force({UNKNOWN: PriceOverride(input=Decimal(3), output=Decimal(15))})

    anywhere = dollars(price_of(Tokens(1_000, 1_000), UNKNOWN, TODAY))
    in_us = dollars(price_of(Tokens(1_000, 1_000, inference_geo="us"), UNKNOWN, TODAY))
    assert in_us == tuple(amount * Decimal("1.1") for amount in anywhere)


@pytest.mark.parametrize(
    ("given_prices", "said"),
    [
        ('{"claude-*": {}}', "must say discount, or input and output"),
        ('{"claude-*": {"input": 1}}', "must say discount, or input and output"),
        ('{"claude-*": {"discount": 5, "input": 1}}', "discount is on the known price"),
        ('{"claude-*": {"discount": 101}}', "less than or equal to 100"),
        ('{"claude-*": {"input": -1, "output": 1}}', "greater than or equal to 0"),
        ('{"claude-*": {"price": 1}}', "not permitted"),
        ('{"no model": {"discount": 1}}', "'no model': must be a model's name"),
        ("15", "valid dictionary"),
    ],
)
def test_what_makes_no_sense_is_refused(
    given_prices: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARPOOL_PRICES", given_prices)

    with pytest.raises(SettingsInvalid, match=r"prices.*CARPOOL_PRICES") as refused:
        read_settings()
    assert said in str(refused.value)


def test_the_settings_put_their_prices_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARPOOL_PRICES", '{"our-*": {"input": 1, "output": 1}}')
    settings.settings.cache_clear()

    settings.settings()

    assert price_of(Tokens(1, 1), UNKNOWN, TODAY) is not None
    settings.settings.cache_clear()
