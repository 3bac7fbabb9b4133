"""What an answer costs is what the price library says it costs, to the picodollar; prices by hand: test_prices.py."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal

import pytest
from genai_prices import Usage, calc_price
from hypothesis import example, given, settings
from hypothesis import strategies as st

from carpool_worker.money.costs import CacheCreation, ServerTools, Tokens, price_of
from carpool_worker.units import DOLLAR

DAY = date(2026, 11, 1)
TIERED = "claude-sonnet-4-5"
MODELS = [TIERED, "claude-haiku-4-5", "claude-opus-4-5", "claude-haiku-4-5-20251001"]
TIER_START = 200_000
"""Input tokens above which claude-sonnet-4-5 costs more (Anthropic's price list)."""

counts = st.integers(0, 300_000)


def used(uncached: int, output: int, read: int, short: int, long: int, searches: int) -> Tokens:
    return Tokens(
        input_tokens=uncached,
        output_tokens=output,
        cache_creation_input_tokens=short + long,
        cache_read_input_tokens=read,
        cache_creation=CacheCreation(short, long),
        server_tool_use=ServerTools(searches),
    )


def by_the_library(model: str, tokens: Tokens, in_batch: bool) -> Decimal:
    assert tokens.cache_creation
    assert tokens.server_tool_use
    usage = Usage(
        input_tokens=tokens.input_tokens + tokens.cache_write_tokens + tokens.cache_read_tokens,
        output_tokens=tokens.output_tokens,
        cache_read_tokens=tokens.cache_read_tokens,
        cache_write_tokens=tokens.cache_write_tokens,
        cache_write_1h_tokens=tokens.cache_creation.ephemeral_1h_input_tokens,
        web_searches=tokens.server_tool_use.web_search_requests,
    )
    return calc_price(
        usage,
        model,
        provider_id="anthropic",
        genai_request_timestamp=datetime.combine(DAY, time(12), UTC),
        price_context={"processing": "batch"} if in_batch else None,
    ).total_price


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(MODELS), counts, counts, counts, counts, counts, st.integers(0, 50))
@example(TIERED, TIER_START, 10, 0, 0, 0, 0)
@example(TIERED, TIER_START + 1, 10, 0, 0, 0, 0)
@example(TIERED, TIER_START - 2, 10, 1, 1, 0, 1)
@example(TIERED, TIER_START - 2, 10, 1, 1, 1, 1)
def test_every_usage_costs_what_the_library_says(
    model: str, uncached: int, output: int, read: int, short: int, long: int, searches: int
) -> None:
    tokens = used(uncached, output, read, short, long, searches)

    price = price_of(tokens, model, DAY)

    assert price is not None
    assert Decimal(price.cost) / DOLLAR == by_the_library(model, tokens, in_batch=True)
    assert Decimal(price.list_price) / DOLLAR == by_the_library(model, tokens, in_batch=False)


@pytest.mark.parametrize("model", MODELS)
def test_a_batch_halves_tokens_of_every_kind_but_not_web_searches(model: str) -> None:
    kinds = [used(*(1_000 * (kind == n) for n in range(6))) for kind in range(6)]

    prices = [price_of(tokens, model, DAY) for tokens in kinds]

    ratios = [Decimal(price.cost) / price.list_price for price in prices if price]
    assert ratios == [Decimal("0.5")] * 5 + [Decimal(1)]


def test_an_unknown_model_has_no_price() -> None:
    assert price_of(Tokens(1, 0), "no-such-model", DAY) is None


def test_a_usage_without_caches_and_tools_is_priced_too() -> None:
    bare, full = Tokens(input_tokens=7, output_tokens=5), used(7, 5, 0, 0, 0, 0)

    assert price_of(bare, TIERED, DAY) == price_of(full, TIERED, DAY)


@pytest.mark.parametrize("split", [CacheCreation(300, 0), CacheCreation(0, 300), CacheCreation(100, 200)])
def test_a_breakdown_of_cache_writes_without_its_total_is_priced_by_the_breakdown(
    split: CacheCreation,
) -> None:
    total = split.ephemeral_5m_input_tokens + split.ephemeral_1h_input_tokens
    with_total = Tokens(1, 1, cache_creation_input_tokens=total, cache_creation=split)

    for alone in (Tokens(1, 1, cache_creation=split), Tokens(1, 1, 0, cache_creation=split)):
        assert price_of(alone, TIERED, DAY) == price_of(with_total, TIERED, DAY)
        assert alone.cache_write_tokens == total


def test_cache_writes_beyond_the_breakdown_are_priced_as_the_shorter_ones() -> None:
    # Given a total with a kind of write that this version does not know
    more = Tokens(1, 1, cache_creation_input_tokens=1_000, cache_creation=CacheCreation(100, 200))

    assert price_of(more, TIERED, DAY) == price_of(used(1, 1, 0, 800, 200, 0), TIERED, DAY)
