"""Which sealed batches may be posted: the oldest first, as far as there is room, and one of a paused lane."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool_worker.policies.admission import Ready, fitting, let_pass
from carpool_worker.units import Milliseconds

AT = Milliseconds(1_000)


def next_up(
    ready: list[Ready], probes: dict[str, int], *, queued: int, queue_limit: int, at: Milliseconds
) -> list[str]:
    passing = let_pass(ready, probes, at)
    return [batch.id for batch in fitting(passing, queue_limit - queued, queue_limit)]


def ready(*counts: int, lane: str = "lane") -> list[Ready]:
    return [Ready(f"{n}", lane, count) for n, count in enumerate(counts)]


@pytest.mark.parametrize(
    ("counts", "queued", "expected"),
    [
        ([], 0, []),
        ([40, 60], 0, ["0", "1"]),
        ([40, 61], 0, ["0"]),
        ([40, 60], 1, ["0"]),
        ([10], 100, []),
        ([10], 150, []),
        ([90, 20, 5], 0, ["0"]),
    ],
)
def test_batches_go_in_order_of_age_while_there_is_room(
    counts: list[int], queued: int, expected: list[str]
) -> None:
    assert next_up(ready(*counts), {}, queued=queued, queue_limit=100, at=AT) == expected


def test_one_that_never_fits_is_let_through_to_be_split_and_younger_ones_wait() -> None:
    assert next_up(ready(101, 5), {}, queued=0, queue_limit=100, at=AT) == ["0"]
    assert next_up(ready(5, 101, 5), {}, queued=100, queue_limit=100, at=AT) == []
    assert next_up(ready(5, 101, 5), {}, queued=0, queue_limit=100, at=AT) == ["0", "1"]


def test_of_a_paused_lane_only_the_oldest_goes_and_only_when_its_probe_is_due() -> None:
    line = [Ready("a", "paused", 1), Ready("b", "free", 1), Ready("c", "paused", 1)]

    assert next_up(line, {"paused": AT + 1}, queued=0, queue_limit=100, at=AT) == ["b"]
    assert next_up(line, {"paused": AT}, queued=0, queue_limit=100, at=AT) == ["a", "b"]
    assert next_up(line, {}, queued=0, queue_limit=100, at=AT) == ["a", "b", "c"]


def test_a_paused_lane_keeps_no_other_waiting() -> None:
    line = [Ready("a", "paused", 100), Ready("b", "free", 100)]

    assert next_up(line, {"paused": AT + 1}, queued=0, queue_limit=100, at=AT) == ["b"]


@given(st.lists(st.integers(1, 300)), st.integers(0, 400), st.integers(1, 200))
def test_what_goes_is_a_part_of_the_line_from_its_start_that_fits_but_for_one_to_be_split(
    counts: list[int], queued: int, queue_limit: int
) -> None:
    line = ready(*counts)

    chosen = next_up(line, {}, queued=queued, queue_limit=queue_limit, at=AT)

    assert chosen == [batch.id for batch in line[: len(chosen)]]
    posted = [batch.request_count for batch in line[: len(chosen)] if batch.request_count <= queue_limit]
    assert not posted or queued + sum(posted) <= queue_limit
    assert len(posted) >= len(chosen) - 1
