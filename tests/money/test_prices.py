"""What an answer costs by Anthropic's price list: the prices here are written by hand from its documentation."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest

from carpool_worker.money.costs import Tokens, price_of
from carpool_worker.money.prices import model_prices, newest_model
from carpool_worker.units import DOLLAR

TODAY = date(2026, 11, 22)
BEFORE_BATCH_RATES = date(2026, 10, 13)
"""The last day for which the price library knows no batch rates."""

LIST_PRICES = {  # dollars per million tokens: input, output, cache read, cache write for 5 minutes, for an hour
    "claude-fable-5-1": ("10", "50", "0.25", "12.50", "20"),
    "claude-opus-5-5": ("4", "20", "0.20", "5", "8"),
    "claude-opus-5": ("5", "25", "0.50", "6.25", "10"),
    "claude-opus-4-1-20250805": ("15", "75", "1.50", "18.75", "30"),
    "claude-sonnet-5-5": ("2", "10", "0.10", "2.50", "4"),
    "claude-sonnet-4-5": ("3", "15", "0.30", "3.75", "6"),
    "claude-haiku-5-5": ("0.10", "0.50", "0.01", "0.125", "0.20"),
    "claude-haiku-4-5-20251001": ("1", "5", "0.10", "1.25", "2"),
    "claude-3-5-haiku-20241022": ("0.80", "4", "0.08", "1", "1.60"),
    "claude-3-haiku-20240307": ("0.25", "1.25", "0.03", "0.30", "0.50"),
}


def used(
    uncached: int, output: int, read: int, short: int, long: int, searches: int = 0, **more: Any
) -> Tokens:
    """Read a usage as the API writes it."""
    usage = {
        "input_tokens": uncached,
        "output_tokens": output,
        "cache_creation_input_tokens": short + long,
        "cache_read_input_tokens": read,
        "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
        "server_tool_use": {"web_search_requests": searches, "web_fetch_requests": 2} if searches else None,
        "service_tier": "batch",
    }
    return msgspec.json.decode(json.dumps(usage | more), type=Tokens)


def by_hand(model: str, *counts: int) -> Fraction:
    """Return the list price in dollars, in an arithmetic that the program does not use."""
    rates = (Fraction(rate) / 1_000_000 for rate in LIST_PRICES[model])
    return sum((rate * count for rate, count in zip(rates, counts, strict=True)), Fraction(0))


def priced(tokens: Tokens, model: str, day: date = TODAY) -> tuple[Fraction, Fraction]:
    price = price_of(tokens, model, day)
    assert price is not None
    return Fraction(price.cost, DOLLAR), Fraction(price.list_price, DOLLAR)


@pytest.mark.parametrize("day", [TODAY, BEFORE_BATCH_RATES])
@pytest.mark.parametrize("model", LIST_PRICES)
def test_every_kind_of_token_costs_half_of_the_list_price(model: str, day: date) -> None:
    counts = (12_345, 6_789, 54_321, 1_234, 4_321)

    cost, list_price = priced(used(*counts), model, day)

    assert list_price == by_hand(model, *counts)
    assert cost == list_price / 2


@pytest.mark.parametrize("day", [TODAY, BEFORE_BATCH_RATES])
def test_a_web_search_costs_a_cent_in_a_batch_too(day: date) -> None:
    with_searches = priced(used(1_000, 500, 0, 0, 0, searches=7), "claude-opus-5", day)
    without = priced(used(1_000, 500, 0, 0, 0), "claude-opus-5", day)

    differences = [more - less for more, less in zip(with_searches, without, strict=True)]
    assert differences == [Fraction("0.07")] * 2


@pytest.mark.parametrize(
    ("model", "longest", "higher"),
    [
        pytest.param("claude-haiku-5-5", 100_000, (5, 5), id="Haiku 5.5: five times beyond 100,000"),
        pytest.param("claude-sonnet-4-5", 200_000, (2, Fraction("1.5")), id="Sonnet 4.5 in the 1M beta"),
    ],
)
def test_a_long_prompt_raises_the_price_of_all_its_tokens(
    model: str, longest: int, higher: tuple[Fraction, Fraction]
) -> None:
    # Given prompts of just the length, cached tokens included, and of one token more
    just, more = (longest - 50, 700, 30, 10, 10), (longest - 49, 700, 30, 10, 10)

    # Then the longer one costs more in every kind of token
    assert priced(used(*just), model)[0] == by_hand(model, *just) / 2
    of_input, of_output = higher
    prompt = by_hand(model, more[0], 0, *more[2:]) * of_input
    assert priced(used(*more), model)[0] == (prompt + by_hand(model, 0, 700, 0, 0, 0) * of_output) / 2


def test_prices_are_those_of_the_day_of_the_answer() -> None:
    # Given a long prompt to Claude Opus 4.6, which cost more until 13 March 2026
    tokens = used(300_000, 0, 0, 0, 0)

    prices = [priced(tokens, "claude-opus-4-6", day)[0] for day in (date(2026, 3, 12), date(2026, 3, 13))]

    assert prices == [Fraction("1.5"), Fraction("0.75")]  # 0.3 MTok at half of $10 and of $5


def test_an_answer_run_within_the_us_costs_a_tenth_more_but_its_searches_do_not() -> None:
    counts = (1_001, 503, 77, 13, 17)

    anywhere = priced(used(*counts, searches=3, inference_geo="global"), "claude-opus-5")
    within = priced(used(*counts, searches=3, inference_geo="us"), "claude-opus-5")

    searches = Fraction("0.03")
    assert anywhere[0] == by_hand("claude-opus-5", *counts) / 2 + searches
    assert within == tuple((price - searches) * Fraction("1.1") + searches for price in anywhere)


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        pytest.param("claude-unheard-of-9", used(1, 1, 0, 0, 0), id="a model that nobody knows"),
        pytest.param("claude-3-haiku-20240307", used(1, 1, 0, 0, 0, searches=1), id="a kind without a price"),
    ],
)
def test_what_is_not_known_has_no_price_and_not_zero(model: str, tokens: Tokens) -> None:
    assert price_of(tokens, model, TODAY) is None


def test_sums_are_exact_however_many_answers_there_are() -> None:
    one = price_of(used(1, 1, 1, 0, 0), "claude-haiku-5-5", TODAY)

    assert one is not None
    # half of (0.10 + 0.50 + 0.01) dollars for a million of each
    assert Decimal(sum(one.cost for _ in range(1_000_000))) / DOLLAR == Decimal("0.305")


def test_the_newest_model_of_a_family_is_that_of_the_highest_version() -> None:
    newest = newest_model("haiku")
    assert newest is not None
    assert model_prices(newest, date(2026, 11, 1))
    assert newest >= "claude-haiku-5-5"
    assert newest_model("unheard-of") is None
