"""When sealed batches may be posted: submit windows such as 'Mon-Fri 22:00-06:00 Europe/Berlin'. Pure.

The local time of a window's zone decides, minute by minute: hours that a change of the clocks skips do not open it, and
hours that it repeats open it twice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from carpool_worker.units import SECOND, Milliseconds

LEAD = 5 * SECOND
"""How long before a request's `submit_by` its batch leaves: for beat's tick, writing the body, and the post."""

MINUTE = 60 * SECOND
"""Windows open and close on whole minutes, and zones differ from UTC by whole minutes."""

DAY_MINUTES = 24 * 60

LONGEST_CLOSED = 15 * DAY_MINUTES
"""Minutes: a short window on one day of the week stays closed longest, when a change of the clocks skips it once."""

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_DAY = "|".join(DAYS)
WRITTEN = re.compile(
    rf"(?:(?P<first>{_DAY})(?:-(?P<last>{_DAY}))?)?\s*"
    r"(?:(?P<begin>\d\d?:\d\d)-(?P<end>\d\d?:\d\d))?"
    r"(?:\s+(?P<zone>\S+))?",
    re.IGNORECASE,
)
FORM = "must be days, hours or both, then a time zone: Mon-Fri 22:00-06:00 Europe/Berlin"


@dataclass(frozen=True, slots=True)
class SubmitWindow:
    """Some hours of some days of the week; hours past midnight belong to the day on which they began."""

    text: str
    days: frozenset[int]  # 0 is Monday
    begin: int  # minutes since midnight
    end: int  # more than a day if it is on the next one
    zone: ZoneInfo

    def is_open(self, at: Milliseconds) -> bool:
        """Return whether it is open at a time, in milliseconds since the epoch."""
        local = datetime.fromtimestamp(at // SECOND, self.zone)
        minute, today = local.hour * 60 + local.minute, local.weekday()
        if today in self.days and self.begin <= minute < self.end:
            return True
        return minute + DAY_MINUTES < self.end and (today - 1) % 7 in self.days


Windows = tuple[SubmitWindow, ...]
"""Open while one of them is; always open if there are none."""


class Opening(NamedTuple):
    """When closed windows open again, in milliseconds since the epoch, and which of them does."""

    at: Milliseconds
    window: SubmitWindow


@lru_cache
def parse(text: str) -> SubmitWindow:
    """Return a window from its text: days (Sat, Mon-Fri), hours (22:00-06:00) or both, then a zone (UTC by default).

    Raises:
        ValueError: the text has another form, or the window never opens; the message explains what is expected.
    """
    written = WRITTEN.fullmatch(text.strip())
    if written is None or not (written["first"] or written["begin"]):
        raise ValueError(f"{text!r}: {FORM}")
    begin, end = (_minutes(written[name] or whole) for name, whole in (("begin", "00:00"), ("end", "24:00")))
    if begin in (end, DAY_MINUTES):
        raise ValueError(f"{text!r}: must end at another time than it begins; a whole day is 00:00-24:00")
    end += DAY_MINUTES if end < begin else 0
    first, last = written["first"] or DAYS[0], written["last"] or written["first"] or DAYS[-1]
    return SubmitWindow(text.strip(), _days(first, last), begin, end, _zone(written["zone"] or "UTC"))


def parse_all(texts: Sequence[str]) -> Windows:
    """Return the windows of the setting `submit_windows`."""
    return tuple(map(parse, texts))


def is_open(windows: Windows, at: Milliseconds) -> bool:
    """Return whether one of them is open at a time, in milliseconds since the epoch, or there are none."""
    return not windows or any(window.is_open(at) for window in windows)


def blocks(windows: Windows, submit_by: int | None, at: Milliseconds) -> bool:
    """Return whether windows keep a batch waiting that should be on its way by `submit_by`; in ms since the epoch."""
    return not is_open(windows, at) and (submit_by is None or at < submit_by - LEAD)


def next_opening(windows: Windows, at: Milliseconds) -> Opening | None:
    """Return when windows that are closed `at` (milliseconds since the epoch) open next, or None if they are open."""
    if is_open(windows, at):
        return None
    first = at - at % MINUTE + MINUTE
    minutes = map(Milliseconds, range(first, first + LONGEST_CLOSED * MINUTE, MINUTE))
    return next(Opening(minute, window) for minute in minutes for window in windows if window.is_open(minute))


def first_open(windows: Windows, at: Milliseconds) -> Milliseconds:
    """Return the first time from `at` on at which one of them is open, in milliseconds since the epoch."""
    opening = next_opening(windows, at)
    return opening.at if opening else at


@lru_cache
def longest_closed(windows: Windows, day: int) -> int:
    """Return the most seconds for which windows stay closed within two weeks from `day`, in days since the epoch."""
    first = day * DAY_MINUTES
    minutes = map(Milliseconds, range(first * MINUTE, (first + 14 * DAY_MINUTES) * MINUTE, MINUTE))
    runs = groupby(minutes, lambda minute: is_open(windows, minute))
    return max((sum(60 for _ in run) for opened, run in runs if not opened), default=0)


def _minutes(written: str) -> int:
    hours, minutes = map(int, written.split(":"))
    if minutes > 59 or hours * 60 + minutes > DAY_MINUTES:
        raise ValueError(f"{written!r}: must be a time from 00:00 to 24:00")
    return hours * 60 + minutes


def _days(first: str, last: str) -> frozenset[int]:
    begin, end = (DAYS.index(day.lower()) for day in (first, last))
    return frozenset((begin + n) % 7 for n in range((end - begin) % 7 + 1))


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r}: must be a time zone by its IANA name, such as Europe/Berlin") from None
