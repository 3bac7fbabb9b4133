"""What a relay ran twice is told from what Carpool would have paid for twice, and must be named."""

from __future__ import annotations

import pytest
from tests.chaos.repeats import Repeat, surplus, unnamed, without

REPEATS = [Repeat("first", "again")]


def ran(batch_id: str, custom_id: str = "a", outcome: str = "succeeded") -> dict[str, str]:
    return {"batch_id": batch_id, "custom_id": custom_id, "outcome": outcome}


@pytest.mark.parametrize(
    ("entries", "known", "answered_in", "of_the_relay"),
    [
        (["first", "again"], {"first"}, "first", ["again"]),
        (["first", "again"], {"again"}, "again", ["first"]),  # its answer was lost, and the other one found
        (["again", "later"], {"first", "later"}, "later", ["again"]),  # the first failed
        (["first", "again"], {"first", "again"}, "first", ["again"]),  # adopted for its others
        (
            ["first", "again", "later"],
            {"first", "later"},
            "later",
            ["again"],
        ),  # the first is Carpool's own doing
        (["first", "later"], {"first", "later"}, "later", []),
        (["first", "again"], set[str](), "later", ["first"]),
        (["other", "later"], {"later"}, "later", []),
    ],
)
def test_of_each_request_a_relay_ran_one_too_many_at_most(
    entries: list[str], known: set[str], answered_in: str, of_the_relay: list[str]
) -> None:
    found = surplus([ran(batch_id) for batch_id in entries], REPEATS, known, {"a": answered_in})

    assert [one["batch_id"] for one in found] == of_the_relay


def test_what_failed_was_not_billed_and_others_stay() -> None:
    entries = [ran("first"), ran("again", outcome="errored"), ran("again", "b"), ran("first", "b")]

    twice = surplus(entries, REPEATS, {"first"}, {"a": "first", "b": "first"})

    assert twice == [entries[2]]
    assert without(entries, twice) == [entries[0], entries[1], entries[3]]


def test_a_batch_that_is_not_named_with_all_that_ran_there_is_a_broken_promise() -> None:
    twice = [ran("again"), ran("again", "b")]
    named = {"claude_id": "again", "verdict": "twice", "answered": 2}

    assert list(unnamed(twice, set(), [named])) == []
    for wrong in ([], [named | {"answered": 1}], [named | {"verdict": "unread"}]):
        [sentence] = unnamed(twice, set(), wrong)
        assert sentence.startswith("again ran 2 requests by a relay's doing")
    assert list(unnamed(twice, {"again"}, [])) == []
