"""What becomes of a request with a deadline, whatever time is left and however long batches took."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.keywords import DEADLINE_POLICIES
from carpool_worker.policies.deadlines import (
    CALL_SECONDS,
    KNOWN,
    LONGEST,
    ON_A_GUESS,
    PATIENCE,
    DeadlineRule,
    Move,
    decide,
)
from carpool_worker.policies.durations import Histogram, bucket_of, chance, quantile

RULE = DeadlineRule()
ORDER = list(Move)
NOTHING: Histogram = {}

policies = st.sampled_from([None, *DEADLINE_POLICIES])
rules = st.builds(DeadlineRule, share=st.floats(0.5, 0.999), overhead=st.floats(0, 300))
histograms = st.dictionaries(st.integers(-80, 140), st.floats(0.05, 50), max_size=30)
seconds = st.floats(-90_000, 200_000)


def took(*durations: float) -> Histogram:
    histogram: dict[int, float] = {}
    for one in durations:
        histogram[bucket_of(one)] = histogram.get(bucket_of(one), 0) + 1
    return histogram


FROM_10_TO_60_MINUTES = took(*(60.0 * minutes for minutes in range(10, 60)))


def test_with_time_it_is_pooled_with_less_it_is_sent_and_with_too_little_it_is_called() -> None:
    learned = FROM_10_TO_60_MINUTES
    sends, calls = RULE.sends_within(learned), RULE.calls_within(learned)

    assert decide(7_200, learned, RULE) is decide(sends + 1, learned, RULE) is Move.POOL
    assert decide(sends, learned, RULE) is decide(calls + 1, learned, RULE) is Move.SEND
    assert decide(calls, learned, RULE) is decide(1_800, learned, RULE) is Move.CALL
    assert sends >= calls + PATIENCE


@pytest.mark.parametrize("policy", DEADLINE_POLICIES)
def test_what_anthropic_has_is_called_only_if_its_client_pays_again_and_as_late_as_possible(
    policy: str,
) -> None:
    learned = FROM_10_TO_60_MINUTES

    early = decide(CALL_SECONDS + 1, learned, RULE, policy, is_at_anthropic=True)
    late = decide(CALL_SECONDS, learned, RULE, policy, is_at_anthropic=True)

    assert early is Move.POOL
    assert late is (Move.CALL if policy == "pay_again" else Move.POOL)


def test_what_may_not_cost_the_full_price_is_sent_however_late() -> None:
    assert decide(60, FROM_10_TO_60_MINUTES, RULE, "batch") is Move.SEND


def test_with_nothing_learned_nothing_is_pooled_and_the_full_price_is_paid_only_if_little_is_left() -> None:
    for learned in (NOTHING, took(*[1.0] * int(KNOWN - 1))):
        assert decide(LONGEST, learned, RULE) is Move.SEND
        assert decide(ON_A_GUESS + RULE.overhead + 1, learned, RULE) is Move.SEND
        assert decide(ON_A_GUESS, learned, RULE) is Move.CALL


@given(left=seconds, learned=histograms, rule=rules, policy=policies, is_out=st.booleans())
def test_it_is_never_called_where_its_client_forbids_it_nor_when_it_is_late_anyway(
    left: float, learned: Histogram, rule: DeadlineRule, policy: str | None, is_out: bool
) -> None:
    move = decide(left, learned, rule, policy, is_at_anthropic=is_out)

    if policy == "batch" or (is_out and policy != "pay_again") or left <= 0:
        assert move is not Move.CALL
    if is_out:
        assert move is not Move.SEND


@given(
    lefts=st.tuples(seconds, seconds), learned=histograms, rule=rules, policy=policies, is_out=st.booleans()
)
def test_with_less_time_it_is_never_further_back(
    lefts: tuple[float, float], learned: Histogram, rule: DeadlineRule, policy: str | None, is_out: bool
) -> None:
    less, more = sorted(abs(left) + 0.001 for left in lefts)

    moves = [decide(left, learned, rule, policy, is_at_anthropic=is_out) for left in (less, more)]

    assert ORDER.index(moves[0]) >= ORDER.index(moves[1])


@given(
    left=st.floats(0.001, 200_000),
    learned=histograms,
    rule=rules,
    policy=policies,
    longer=st.integers(1, 40),
)
def test_where_batches_take_longer_it_is_never_further_back(
    left: float, learned: Histogram, rule: DeadlineRule, policy: str | None, longer: int
) -> None:
    slower = {bucket + longer: weight for bucket, weight in learned.items()}

    moves = [decide(left, one, rule, policy) for one in (slower, learned)]

    assert ORDER.index(moves[0]) >= ORDER.index(moves[1])


@given(left=seconds, learned=histograms, rule=rules)
def test_a_pooled_request_is_one_that_as_many_batches_as_wanted_would_bring_in_time(
    left: float, learned: Histogram, rule: DeadlineRule
) -> None:
    if decide(left, learned, rule) is Move.POOL and sum(learned.values()) >= KNOWN:
        assert (chance(learned, left - rule.overhead) or 0) >= rule.share - 1e-6


@given(learned=histograms, share=st.floats(0.01, 0.99))
def test_the_chance_of_a_quantile_is_its_share_at_least(learned: Histogram, share: float) -> None:
    within = quantile(learned, share)

    assert (within is None) == (not learned)
    if within is not None:
        assert (chance(learned, within) or 0) >= share - 1e-6
