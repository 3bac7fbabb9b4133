"""Views become what JSON knows, in one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from carpool_worker.states import BatchState
from carpool_worker.views.encoding import FLAT, Moment, plain

NOON = 1_795_435_200_000


class Step(NamedTuple):
    at: Moment
    words: str


@dataclass(frozen=True)
class Inner:
    count: int


@dataclass(frozen=True)
class View:
    at: Moment
    ended_at: Moment | None
    age: int
    cost: Decimal | None
    story: tuple[Step, ...] = ()
    inner: Inner | None = None
    flat: Inner | Mapping[str, Any] | None = field(default=None, metadata=FLAT)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (BatchState.OPEN, "open"),
        (Decimal("0.000000005"), "0.000000005"),
        ({BatchState.OPEN: Inner(1)}, {"open": {"count": 1}}),
        ([Step(NOON, "sealed")], [["2026-11-23T12:00:00Z", "sealed"]]),
        (None, None),
        ({"any": [1, 2.5, None, "text"]}, {"any": [1, 2.5, None, "text"]}),
    ],
)
def test_values_become_texts_numbers_lists_and_objects(value: Any, encoded: Any) -> None:
    assert plain(value) == encoded


def test_only_what_is_declared_a_moment_becomes_a_time() -> None:
    view = View(at=NOON, ended_at=None, age=NOON, cost=Decimal("1.50"), story=(Step(NOON, "opened"),))

    assert plain(view) == {
        "at": "2026-11-23T12:00:00Z",
        "ended_at": None,
        "age": NOON,
        "cost": "1.50",
        "story": [["2026-11-23T12:00:00Z", "opened"]],
        "inner": None,
    }


def test_a_flat_fields_own_fields_stand_beside_the_others() -> None:
    view = View(NOON, NOON, 0, None, inner=Inner(1), flat=Inner(2))
    by_period = View(NOON, NOON, 0, None, flat={"day": Inner(3)})

    encoded = plain(view)
    assert (encoded["inner"], encoded["count"]) == ({"count": 1}, 2)
    assert plain(by_period)["day"] == {"count": 3}
    assert "flat" not in encoded
