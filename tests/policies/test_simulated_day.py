"""A simulated day of 1,000,000 requests: what deadlines are worth, and what they cost."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import NormalDist

import pytest
from tests.policies import simulated_day
from tests.policies.simulated_day import ARRIVALS, DAYS, SEED, SLOW, SLOW_HOURS, USUAL, Tally, table

HOUR, TWO_HOURS = simulated_day.DEADLINES
PAGE = Path(__file__).parents[2] / "docs" / "deadlines.md"


@pytest.fixture(scope="module")
def days() -> dict[str, Tally]:
    return {name: day(SEED).run() for name, day in DAYS.items()}


def within(minutes: float) -> float:
    """The share of requests whose batches take no longer than that, whatever their hour."""
    shares = (
        arrived * NormalDist().cdf(math.log(minutes / median) / sigma)
        for hour, arrived in enumerate(ARRIVALS)
        for median, sigma in [SLOW if hour in SLOW_HOURS else USUAL]
    )
    return sum(shares) / sum(ARRIVALS)


def test_batches_take_as_long_as_the_scenario_says() -> None:
    for minutes, share in ((12, 0.5), (40, 0.95), (90, 0.99)):
        assert within(minutes) == pytest.approx(share, abs=0.005)


def test_nobody_is_lost_and_nobody_is_answered_twice(days: dict[str, Tally]) -> None:
    for day in days.values():
        assert day.requests == simulated_day.REQUESTS
        assert day.answered == day.requests
        assert all(day.met[wait] <= day.asked[wait] == day.requests // 2 for wait in (HOUR, TWO_HOURS))


def test_most_deadlines_are_met_and_few_requests_pay_for_that(days: dict[str, Tally]) -> None:
    day = days["With deadlines"]

    assert day.share_met(HOUR) >= 0.97
    assert day.share_met(TWO_HOURS) >= 0.995
    assert day.share_called <= 0.08


def test_the_same_day_without_them_meets_clearly_fewer_and_real_time_for_all_costs_twice(
    days: dict[str, Tally],
) -> None:
    ours, without, in_real_time = days.values()

    assert without.share_met(HOUR) < ours.share_met(HOUR) - 0.1
    assert without.share_met(TWO_HOURS) < ours.share_met(TWO_HOURS)
    assert (without.price, in_real_time.price) == (0.5, 1.0)
    assert ours.price < 0.54
    assert min(map(in_real_time.share_met, (HOUR, TWO_HOURS))) > 0.99


def test_the_documentation_shows_this_day(days: dict[str, Tally]) -> None:
    assert table(days) in PAGE.read_text()
