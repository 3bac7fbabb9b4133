"""What surely waited at once is counted: a quota that is exceeded is noticed, and one that is kept never is."""

from __future__ import annotations

import pytest
from tests.chaos.occupancy import Call, Stay, most, too_many

STAYS = {"a": Stay(0, 10), "b": Stay(5, 20), "c": Stay(10, 30)}


@pytest.mark.parametrize(("until", "highest"), [(5, 1), (10, 2), (100, 2), (0, 0)])
def test_who_leaves_makes_room_for_who_comes(until: float, highest: int) -> None:
    assert most(STAYS.values(), until) == highest


def test_what_ended_before_its_producer_knew_it_counts_at_no_time() -> None:
    assert most([Stay(5, 4), Stay(4, 5)]) == 1


def test_a_call_that_was_let_in_without_room_is_noticed() -> None:
    late = Call(12, 14, ["d"])

    assert list(too_many([late], STAYS, 3)) == []
    assert list(too_many([late], STAYS, 2)) == ["1 requests were let in beside 2, with a quota of 2"]
    assert list(too_many([late], STAYS, 2, [Stay(13, 20)])) == []
    assert len(list(too_many([late], STAYS, 2, [Stay(15, 20)]))) == 1


def test_a_call_during_which_somebody_left_may_have_had_their_room() -> None:
    assert list(too_many([Call(8, 21, ["d"])], STAYS, 1)) == []
