"""How long the attacks may take: every run has a limit, and so has the whole, which is known before it begins."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from tests.chaos.scenario import Scenario
from tests.chaos.settling import ANSWERS_SECONDS, SETTLE_SECONDS
from tests.chaos.stack import READY_SECONDS

STOP_SECONDS = 60.0
"""How long stopping every process of a stack may take."""

SLOWEST_REST = READY_SECONDS + SETTLE_SECONDS + ANSWERS_SECONDS + STOP_SECONDS
"""Seconds that one run may take besides its attack: to come up, to settle, for the last answers, to stop."""

USUAL_REST = 75.0
"""Seconds that the runs may take besides their attacks on average; together they may exceed it by one SLOWEST_REST."""


class OutOfTime(BaseException):
    """The time is up; no `except Exception` of what is running must keep it from ending."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in here, whatever the main thread waits for, after this many seconds."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise OutOfTime

    handler = signal.signal(signal.SIGALRM, ring)
    timer = signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *timer)  # that of the tests, when they call this


def attack_seconds(scenario: Scenario, minutes: float) -> float:
    """Return how long a scenario attacks, at most, on one database."""
    return minutes * 60 if scenario.seconds is None else scenario.seconds


def run_limit(scenario: Scenario, minutes: float) -> float:
    """Return the seconds after which one run has failed."""
    return attack_seconds(scenario, minutes) + SLOWEST_REST


def whole_limit(runs: Sequence[tuple[Scenario, str]], minutes: float) -> float:
    """Return the seconds after which the whole ends, whatever it has not got to."""
    longest = sum(run_limit(scenario, minutes) for scenario, _ in runs)
    usual = sum(attack_seconds(scenario, minutes) + USUAL_REST for scenario, _ in runs)
    return min(longest, usual + SLOWEST_REST)
