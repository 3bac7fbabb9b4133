"""When batches are polled: as soon as they are expected to have ended, and no more often than that takes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool_worker.policies.durations import FADES, bucket_of, longest_in, quantile
from carpool_worker.policies.polling import BatchAge, PollPolicy

HOUR = 3_600.0
histograms = st.dictionaries(st.integers(-20, 130), st.floats(0.05, 50.0), max_size=40)
short = st.dictionaries(st.integers(-20, 70), st.floats(0.05, 50.0), max_size=40)
intervals = st.floats(0.1, 600.0)


def learned(*seconds: float) -> dict[int, float]:
    found = dict[int, float]()
    for one in seconds:
        found = {bucket: weight * FADES for bucket, weight in found.items()}
        found[bucket_of(one)] = found.get(bucket_of(one), 0.0) + 1.0
    return found


def looks(policy: PollPolicy, learned: Mapping[int, float], took: float) -> list[float]:
    """The ages at which a batch is polled that takes so long, the last one after its end."""
    found = [0.0]
    while found[-1] < took:
        wait = policy.seconds_until_poll([BatchAge(found[-1], learned)])
        assert wait is not None
        found.append(found[-1] + wait)
    return found[1:]


def test_with_no_batch_at_anthropic_nothing_is_polled() -> None:
    assert PollPolicy(30.0).seconds_until_poll([]) is None


def test_a_model_that_takes_a_second_is_seen_at_once_with_one_poll() -> None:
    [look] = looks(PollPolicy(30.0), learned(*[1.01] * 5), took=1.02)

    assert look == pytest.approx(1.0, abs=0.1)


def test_one_that_takes_an_hour_is_polled_at_the_interval_as_that_is_the_longest_wait() -> None:
    found = looks(PollPolicy(30.0), learned(*[HOUR] * 50), took=HOUR)

    assert found[0] == 30.0
    assert len(found) <= HOUR / 30.0 + 5


def test_with_nothing_learned_the_waits_grow_from_a_fraction_of_the_interval_up_to_it() -> None:
    found = looks(PollPolicy(30.0), {}, took=600.0)
    waits = [later - earlier for earlier, later in zip([0.0, *found], found, strict=False)]

    assert waits[0] == pytest.approx(30 / 16)
    assert all(later >= earlier * 0.999 for earlier, later in itertools.pairwise(waits))
    assert waits[-1] == 30.0
    assert len(found) < 600.0 / 30.0 + 12


def test_a_batch_that_takes_longer_than_any_before_is_polled_ever_more_slowly() -> None:
    found = looks(PollPolicy(600.0), learned(*[60.0] * 20), took=HOUR)

    assert found[0] == pytest.approx(60.0, rel=0.1)
    assert len(found) < 50


@given(intervals, st.lists(st.tuples(st.floats(-100.0, 100_000.0), histograms), min_size=1, max_size=5))
def test_a_wait_is_never_longer_than_the_interval_nor_shorter_than_the_least(
    interval: float, out: list[tuple[float, dict[int, float]]]
) -> None:
    policy = PollPolicy(interval)

    wait = policy.seconds_until_poll(BatchAge(*one) for one in out)

    assert wait is not None
    assert policy.least <= wait <= interval


@given(short.filter(bool), st.floats(30.0, 600.0))
def test_whatever_was_learned_few_polls_are_made_up_to_the_longest_duration(
    histogram: dict[int, float], interval: float
) -> None:
    took = longest_in(max(histogram))

    polls = len(looks(PollPolicy(interval), histogram, took))

    # Each halves what is still expected, unless the interval is what it waits for
    assert polls <= 20 + took / interval


@given(st.lists(st.floats(0.01, 100_000.0), min_size=1, max_size=60), st.floats(0.01, 1.0))
def test_a_quantile_is_right_to_a_tenth(seconds: list[float], share: float) -> None:
    even = dict[int, float]()
    for one in seconds:
        even[bucket_of(one)] = even.get(bucket_of(one), 0.0) + 1.0
    exact = sorted(seconds)[max(0, -int(-share * len(seconds) // 1) - 1)]

    found = quantile(even, share)

    assert found is not None
    assert (
        exact * 0.999 <= found or sum(one <= found * 1.001 for one in seconds) >= share * len(seconds) - 1e-6
    )
    assert min(seconds) <= found * 1.001
    assert found <= max(seconds) * 1.1


def test_nothing_is_known_of_what_takes_longer_than_all_before() -> None:
    assert quantile(learned(1.0, 2.0), 0.5, longer_than=3.0) is None
    assert quantile({}, 0.5) is None
