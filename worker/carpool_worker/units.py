"""Units of the numbers in the tables, as types: mypy keeps milliseconds apart from seconds."""

from __future__ import annotations

from typing import NewType

Milliseconds = NewType("Milliseconds", int)
"""A time (since the epoch, UTC) or a duration; the tables keep both like this."""

SECOND = Milliseconds(1_000)
HOUR = Milliseconds(3_600_000)
DAY = Milliseconds(86_400_000)

Picodollars = NewType("Picodollars", int)
"""Money as the tables keep it: integers, so that sums are exact. The cheapest token known costs 5,000 of them."""

DOLLAR = Picodollars(10**12)


def after(at: Milliseconds, seconds: float) -> Milliseconds:
    """Return the time that is this many seconds after another."""
    return Milliseconds(at + int(seconds * SECOND))
