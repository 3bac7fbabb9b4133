"""Units: what the numbers in the tables count. The types keep milliseconds from meeting seconds."""

from __future__ import annotations

from typing import NewType

Milliseconds = NewType("Milliseconds", int)
"""A moment (since the epoch, UTC) or a length of time, as the tables keep both."""

SECOND = Milliseconds(1_000)
HOUR = Milliseconds(3_600_000)
DAY = Milliseconds(86_400_000)

Picodollars = NewType("Picodollars", int)
"""Money as the tables keep it, whole so that sums are exact; the cheapest token known costs 5,000 of them."""

DOLLAR = Picodollars(10**12)
