"""Turns: bounded in all and per receiver, and fair between receivers."""

from __future__ import annotations

from collections import Counter, deque

from hypothesis import given
from hypothesis import strategies as st

from carpool_worker.pipeline.delivery.concurrency import FIRST, SLOW_SHARE, Turns


class Recorder:
    def __init__(self, total: int, a_lane: int) -> None:
        self.out: deque[tuple[str, int]] = deque()
        self.started: list[tuple[str, int]] = []
        self.turns = Turns[int](total, a_lane, self._start)

    def _start(self, lane: str, item: int) -> None:
        self.out.append((lane, item))
        self.started.append((lane, item))

    def finish_one(self, quick: bool = True) -> None:
        self.turns.finish(self.out.popleft()[0], quick)


def test_a_receiver_gets_so_many_at_a_time_and_no_more() -> None:
    # Given
    recorder = Recorder(total=10, a_lane=2)

    # When
    for number in range(5):
        recorder.turns.add("slow", number)

    # Then
    assert recorder.started == [("slow", 0), ("slow", 1)]
    recorder.finish_one()
    assert recorder.started[2:] == [("slow", 2)]


def test_a_receiver_of_which_nothing_is_known_gets_few_until_its_first_answer() -> None:
    # Given
    recorder = Recorder(total=100, a_lane=20)
    for number in range(50):
        recorder.turns.add("new", number)
    assert len(recorder.out) == FIRST

    # When
    recorder.finish_one()

    # Then
    assert len(recorder.out) == 20


def test_slow_receivers_share_a_small_part_and_leave_it_when_they_are_quick_again() -> None:
    # Given: receivers that failed at their last try, each with many deliveries
    recorder = Recorder(total=30, a_lane=20)
    for number in range(100):
        recorder.turns.add(f"slow {number % 10}", number, fails=True)
    assert len(recorder.out) == 30 // SLOW_SHARE
    assert len({lane for lane, _ in recorder.out}) == len(recorder.out)

    # When
    recorder.finish_one(quick=False)
    still = len(recorder.out)
    recorder.finish_one(quick=True)

    # Then
    assert (still, len(recorder.out)) == (3, 3 + 9)  # all that waits for the one that was quick


def test_a_receiver_that_turns_slow_gives_up_its_places() -> None:
    # Given
    recorder = Recorder(total=30, a_lane=10)
    for number in range(50):
        recorder.turns.add("slow", number)
    recorder.finish_one()

    # When
    while len(recorder.out) > 1:
        recorder.finish_one(quick=False)

    # Then
    assert recorder.turns.is_clogged("slow")
    assert not recorder.turns.is_clogged("unheard of")
    started = len(recorder.started)
    recorder.finish_one(quick=False)
    assert len(recorder.started) == started + 1


def test_what_waits_for_slow_receivers_is_taken_back_first() -> None:
    # Given
    recorder = Recorder(total=2, a_lane=1)
    for number in range(3):
        recorder.turns.add("slow", number, fails=True)
    for number in range(10, 15):
        recorder.turns.add("quick", number)

    # When / Then
    assert recorder.turns.take_back_longest() == [1, 2]
    assert recorder.turns.take_back_longest() == [11, 12, 13, 14]


def test_receivers_take_turns() -> None:
    # Given
    recorder = Recorder(total=1, a_lane=1)
    for number in range(4):
        recorder.turns.add("busy", number)
    recorder.turns.add("rare", 9)

    # When
    recorder.finish_one()
    recorder.finish_one()

    # Then
    assert ("rare", 9) in recorder.started


def test_what_waits_longest_in_line_can_be_taken_back() -> None:
    # Given
    recorder = Recorder(total=2, a_lane=1)
    for number in range(5):
        recorder.turns.add("slow", number)
    recorder.turns.add("quick", 9)
    recorder.turns.add("quick", 10)

    # When
    late = recorder.turns.take_back_longest()

    # Then
    assert late == [1, 2, 3, 4]
    assert recorder.turns.take_back_all() == [10]
    assert recorder.turns.take_back_all() == []


@given(
    lanes=st.lists(st.sampled_from("abc"), max_size=60),
    total=st.integers(1, 5),
    a_lane=st.integers(1, 3),
    finishes=st.lists(st.sampled_from(["", "quick", "slow"]), max_size=60),
    failing=st.sets(st.sampled_from("abc")),
)
def test_nothing_is_lost_or_started_twice_within_the_limits(
    lanes: list[str], total: int, a_lane: int, finishes: list[str], failing: set[str]
) -> None:
    recorder = Recorder(total, a_lane)
    for number, lane in enumerate(lanes):
        recorder.turns.add(lane, number, lane in failing)
        if recorder.out and number < len(finishes) and finishes[number]:
            recorder.finish_one(finishes[number] == "quick")
        assert len(recorder.out) <= total
        assert max(Counter(name for name, _ in recorder.out).values(), default=0) <= a_lane
    while recorder.out:
        recorder.finish_one()
    assert sorted(recorder.started) == sorted((lane, number) for number, lane in enumerate(lanes))
