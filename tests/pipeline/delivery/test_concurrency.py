"""Deliveries in flight: bounded in all and per receiver, and fair between receivers."""

from __future__ import annotations

from collections import Counter, deque

from hypothesis import given
from hypothesis import strategies as st

from carpool_worker.pipeline.delivery.concurrency import (
    FIRST_DELIVERIES,
    SLOW_SHARE,
    SLOW_WAITING,
    ReceiverLimits,
    ReceiverSpeed,
)
from carpool_worker.policies.turn_queues import TurnQueue


def one_client() -> TurnQueue[int]:
    return TurnQueue({}, lambda _: "billing", lambda _: 1, lambda: 0.0)


class Recorder:
    def __init__(self, total: int, per_receiver: int) -> None:
        self.out: deque[tuple[str, int]] = deque()
        self.started: list[tuple[str, int]] = []
        self.limits = ReceiverLimits[int](total, per_receiver, self._start, one_client)

    def _start(self, receiver: str, item: int) -> None:
        self.out.append((receiver, item))
        self.started.append((receiver, item))

    def finish_one(self, quick: bool = True) -> None:
        speed = ReceiverSpeed.QUICK if quick else ReceiverSpeed.SLOW
        self.limits.finish(self.out.popleft()[0], speed)


def test_a_receiver_gets_so_many_at_a_time_and_no_more() -> None:
    # Given
    recorder = Recorder(total=10, per_receiver=2)

    # When
    for number in range(5):
        recorder.limits.add("slow", number)

    # Then
    assert recorder.started == [("slow", 0), ("slow", 1)]
    recorder.finish_one()
    assert recorder.started[2:] == [("slow", 2)]


def test_a_receiver_of_which_nothing_is_known_gets_few_until_its_first_answer() -> None:
    # Given
    recorder = Recorder(total=100, per_receiver=20)
    for number in range(50):
        recorder.limits.add("new", number)
    assert len(recorder.out) == FIRST_DELIVERIES

    # When
    recorder.finish_one()

    # Then
    assert len(recorder.out) == 20


def test_slow_receivers_share_a_small_part_and_leave_it_when_they_are_quick_again() -> None:
    # Given: receivers that failed at their last try, each with many deliveries
    recorder = Recorder(total=30, per_receiver=20)
    for number in range(100):
        recorder.limits.add(f"slow {number % 10}", number, is_failing=True)
    assert len(recorder.out) == 30 // SLOW_SHARE
    assert len({receiver for receiver, _ in recorder.out}) == len(recorder.out)

    # When
    recorder.finish_one(quick=False)
    still = len(recorder.out)
    recorder.finish_one(quick=True)

    # Then
    assert (still, len(recorder.out)) == (3, 3 + 9)  # all that waits for the one that was quick


def test_a_receiver_that_turns_slow_gives_up_its_places() -> None:
    # Given
    recorder = Recorder(total=30, per_receiver=10)
    for number in range(50):
        recorder.limits.add("slow", number)
    recorder.finish_one()

    # When
    while len(recorder.out) > 1:
        recorder.finish_one(quick=False)

    # Then
    assert recorder.limits.is_slow("slow")
    assert not recorder.limits.is_slow("unheard of")
    taken_back = recorder.limits.take_back("slow")
    assert recorder.limits.waiting("slow") == SLOW_WAITING
    assert recorder.started[-1][1] < min(taken_back)
    assert 49 in taken_back
    started = len(recorder.started)
    recorder.finish_one(quick=False)
    assert len(recorder.started) == started + 1


def test_what_waits_for_slow_receivers_is_taken_back_first() -> None:
    # Given
    recorder = Recorder(total=2, per_receiver=1)
    for number in range(3):
        recorder.limits.add("slow", number, is_failing=True)
    for number in range(10, 15):
        recorder.limits.add("quick", number)

    # When / Then
    assert recorder.limits.take_back_longest() == [1, 2]
    assert recorder.limits.take_back_longest() == [11, 12, 13, 14]


def test_receivers_are_served_in_rotation() -> None:
    # Given
    recorder = Recorder(total=1, per_receiver=1)
    for number in range(4):
        recorder.limits.add("busy", number)
    recorder.limits.add("rare", 9)

    # When
    recorder.finish_one()
    recorder.finish_one()

    # Then
    assert ("rare", 9) in recorder.started


def test_what_waits_longest_in_line_can_be_taken_back() -> None:
    # Given
    recorder = Recorder(total=2, per_receiver=1)
    for number in range(5):
        recorder.limits.add("slow", number)
    recorder.limits.add("quick", 9)
    recorder.limits.add("quick", 10)

    # When
    late = recorder.limits.take_back_longest()

    # Then
    assert late == [1, 2, 3, 4]
    assert recorder.limits.take_back_all() == [10]
    assert recorder.limits.take_back_all() == []


@given(
    receivers=st.lists(st.sampled_from("abc"), max_size=60),
    total=st.integers(1, 5),
    per_receiver=st.integers(1, 3),
    finishes=st.lists(st.sampled_from(["", "quick", "slow"]), max_size=60),
    failing=st.sets(st.sampled_from("abc")),
)
def test_nothing_is_lost_or_started_twice_within_the_limits(
    receivers: list[str], total: int, per_receiver: int, finishes: list[str], failing: set[str]
) -> None:
    recorder = Recorder(total, per_receiver)
    for number, receiver in enumerate(receivers):
        recorder.limits.add(receiver, number, receiver in failing)
        if recorder.out and number < len(finishes) and finishes[number]:
            recorder.finish_one(finishes[number] == "quick")
        assert len(recorder.out) <= total
        assert max(Counter(name for name, _ in recorder.out).values(), default=0) <= per_receiver
    while recorder.out:
        recorder.finish_one()
    assert sorted(recorder.started) == sorted((receiver, number) for number, receiver in enumerate(receivers))
