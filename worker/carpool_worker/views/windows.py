"""Submit windows as a week: when batches may be posted, and when that changes next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import groupby

from carpool_worker.policies.windows import DAY_MINUTES, MINUTE, Windows, is_open, next_opening
from carpool_worker.units import SECOND, Milliseconds

DAYS = 7


@dataclass(frozen=True)
class OpenPart:
    """A part of a day in which a window is open: minutes since 00:00 UTC, the last one excluded."""

    begin: int
    end: int

    def __str__(self) -> str:
        return f"{_clock(self.begin)} to {_clock(self.end)}"


@dataclass(frozen=True)
class DayView:
    """A day (UTC), and when batches may be posted on it."""

    day: date
    open: Sequence[OpenPart]


@dataclass(frozen=True, kw_only=True)
class WeekView:
    """The seven days from today on; without windows all of them are open."""

    texts: Sequence[str]  # the windows, as the setting has them
    days: Sequence[DayView]
    is_open: bool
    opens_at: Milliseconds | None  # next, if they are closed


def week(windows: Windows, at: Milliseconds) -> WeekView:
    """Return the week that begins on the day (UTC) of a time, in milliseconds since the epoch."""
    today = datetime.fromtimestamp(at / SECOND, UTC).date()
    opening = next_opening(windows, at)
    return WeekView(
        texts=[window.text for window in windows],
        days=_days(windows, today),
        is_open=opening is None,
        opens_at=None if opening is None else opening.at,
    )


@lru_cache(maxsize=16)
def _days(windows: Windows, first: date) -> Sequence[DayView]:
    return [_day(windows, first + timedelta(n)) for n in range(DAYS)]


def _day(windows: Windows, day: date) -> DayView:
    midnight = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * SECOND
    runs = groupby(
        range(DAY_MINUTES), lambda minute: is_open(windows, Milliseconds(midnight + minute * MINUTE))
    )
    parts = [(minutes[0], minutes[-1] + 1) for opened, run in runs if opened and (minutes := list(run))]
    return DayView(day, [OpenPart(*part) for part in parts])


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
