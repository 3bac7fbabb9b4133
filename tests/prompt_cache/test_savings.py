"""Whether the cache pays, against numbers calculated by hand from the price list."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from carpool_worker.money.prices import model_prices
from carpool_worker.prompt_cache.savings import (
    CachePlan,
    CacheRates,
    HitRates,
    SharedPrefix,
    breaks_even_at,
    cache_rates,
    decide,
    hits_of,
    saving,
)
from carpool_worker.units import DOLLAR

SONNET = "claude-sonnet-4-5"
PRICES = model_prices(SONNET, date(2026, 11, 22))
MILLION = 1_000_000


def shared(requests: int, tokens: int = 2_000, prefix: str = "a") -> SharedPrefix:
    return SharedPrefix(prefix, requests, "id", tokens * 5)


def test_the_rates_are_half_of_the_price_list() -> None:
    # $3 a million tokens, written for an hour $6, read $0.30
    expected = CacheRates(3 * DOLLAR // 2 // MILLION, 6 * DOLLAR // 2 // MILLION, 3 * DOLLAR // 20 // MILLION)
    assert cache_rates(PRICES) == expected


def test_what_the_cache_saves_is_as_calculated_by_hand() -> None:
    rates = CacheRates(plain=10, write=20, read=1)

    # 1,000 requests of 100 tokens: 1 writes, of 999 half read and half write: 20 + 999 × 10.5 a token, for 10,000
    assert saving(100, 1_000, 1, 0.5, rates) == pytest.approx(100 * (10_000 - 20 - 999 * 10.5))
    assert saving(100, 2, 1, 1.0, rates) == -100  # 20 + 1 for 2 × 10
    assert saving(100, 3, 1, 1.0, rates) == 800  # 20 + 2 for 3 × 10


def test_from_53_percent_of_hits_on_it_pays() -> None:
    rates = cache_rates(PRICES)
    assert rates
    assert breaks_even_at(rates) == pytest.approx(1 / 1.9)

    assert saving(2_000, 10**6, 1, 0.52, rates) < 0 < saving(2_000, 10**6, 1, 0.53, rates)


def test_a_prefix_is_marked_where_it_pays_and_warmed_where_that_is_worth_the_wait() -> None:
    # 0.14 of the price is saved by 60 % of hits, 0.71 by 90 %: with 1,000 requests of 2,000 tokens, $3 of them,
    # that is $0.42 and $2.13
    plan = decide([shared(1_000)], SONNET, PRICES, HitRates(), can_wait=True)

    assert (plan.marked, plan.warms_up) == ((shared(1_000),), True)


@pytest.mark.parametrize(
    ("one", "can_wait", "hits", "is_marked"),
    [
        pytest.param(shared(100), True, HitRates(), True, id="the wait would save 17 cents"),
        pytest.param(shared(1_000), False, HitRates(), True, id="no time to wait"),
        pytest.param(shared(1_000), False, HitRates(cold=0.5), False, id="half of them would find it"),
        pytest.param(shared(1_000), True, HitRates(0.3, 0.3), False, id="the lane's bill shows 30 % of hits"),
        pytest.param(shared(4), True, HitRates(), False, id="too few requests for the first write"),
        pytest.param(
            shared(10_000, tokens=1_023), True, HitRates(), False, id="shorter than the model caches"
        ),
    ],
)
def test_nothing_waits_or_is_marked_unless_it_pays(
    one: SharedPrefix, can_wait: bool, hits: HitRates, is_marked: bool
) -> None:
    plan = decide([one], SONNET, PRICES, hits, can_wait)

    assert (bool(plan.marked), plan.warms_up) == (is_marked, False)


def test_what_an_earlier_batch_has_cached_needs_no_warm_up_and_no_first_write() -> None:
    # Three requests with one write pay at 90 % of hits only; two without any write do
    new, cached = shared(1_000, prefix="new"), replace(shared(2), is_cached=True)

    assert decide([cached], SONNET, PRICES, HitRates(), can_wait=True) == CachePlan((cached,))
    assert decide([replace(new, is_cached=True)], SONNET, PRICES, HitRates(), can_wait=True).warms_up is False
    assert decide([new, cached], SONNET, PRICES, HitRates(), can_wait=True) == CachePlan(
        (new, cached), warms_up=True
    )


def test_the_prefix_that_saves_most_comes_first_and_one_that_costs_is_left_out() -> None:
    many, long, few = shared(1_000, prefix="a"), shared(900, 9_000, "b"), shared(2, prefix="c")

    assert decide([many, long, few], SONNET, PRICES, HitRates(), can_wait=True).marked == (long, many)


def test_a_model_without_known_prices_is_left_alone() -> None:
    unknown = model_prices("claude-unheard-of", date(2026, 11, 22))

    assert decide([shared(10**6)], "claude-unheard-of", unknown, HitRates(), can_wait=True).marked == ()


def test_hit_rates_are_learnt_from_what_was_billed_and_assumed_where_that_is_little() -> None:
    assert hits_of((99_999, 0), (0, 0)) == HitRates()
    assert hits_of((30_000, 70_000), (950_000, 50_000)) == HitRates(cold=0.3, warm=0.95)
