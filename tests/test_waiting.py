"""`until`, on which every test that waits relies."""

from __future__ import annotations

import itertools
import re

import pytest
from tests.fixtures.waiting import until


def test_the_first_true_value_is_returned() -> None:
    values = iter([0, "", None, "found", "too late"])
    assert until(lambda: next(values)) == "found"


def test_the_step_is_taken_between_two_looks_and_not_after_the_last() -> None:
    steps: list[int] = []
    until(lambda: len(steps) == 3, step=lambda: steps.append(1))
    assert len(steps) == 3


def test_a_failure_names_the_condition_and_how_far_things_are() -> None:
    looks = itertools.count()
    with pytest.raises(TimeoutError, match=re.escape("next(looks) < 0, within=0.01")) as failure:
        until(lambda: next(looks) < 0, within=0.01, progress=lambda: {"sealed": 2})
    assert str(failure.value).endswith("so far: {'sealed': 2}")


def test_a_failure_says_what_it_waited_for() -> None:
    with pytest.raises(TimeoutError, match=r"^waited 0\.01 s for the worker to start$"):
        until(lambda: False, within=0.01, waiting_for="the worker to start")
