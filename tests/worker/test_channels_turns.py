"""Turns: bounded in all and per receiver, and fair between receivers."""

from __future__ import annotations

from collections import Counter, deque

from hypothesis import given
from hypothesis import strategies as st

from carpool_worker.channels.turns import Turns


class Recorder:
    def __init__(self, total: int, a_lane: int) -> None:
        self.out: deque[tuple[str, int]] = deque()
        self.started: list[tuple[str, int]] = []
        self.turns = Turns[int](total, a_lane, self._start)

    def _start(self, lane: str, item: int) -> None:
        self.out.append((lane, item))
        self.started.append((lane, item))

    def finish_one(self) -> None:
        self.turns.finish(self.out.popleft()[0])


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
    finishes=st.lists(st.booleans(), max_size=60),
)
def test_nothing_is_lost_or_started_twice_within_the_limits(
    lanes: list[str], total: int, a_lane: int, finishes: list[bool]
) -> None:
    recorder = Recorder(total, a_lane)
    for number, lane in enumerate(lanes):
        recorder.turns.add(lane, number)
        if recorder.out and number < len(finishes) and finishes[number]:
            recorder.finish_one()
        assert len(recorder.out) <= total
        assert max(Counter(name for name, _ in recorder.out).values(), default=0) <= a_lane
    while recorder.out:
        recorder.finish_one()
    assert sorted(recorder.started) == sorted((lane, number) for number, lane in enumerate(lanes))
