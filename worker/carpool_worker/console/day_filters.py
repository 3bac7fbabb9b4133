"""Filters of pages, as their URLs have them: days, and one of a few."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import date, timedelta

from carpool_worker.console.refusals import BadFilter

AGO = re.compile(r"([1-9]\d{0,2})d")
MOST_DAYS = 366


def one_of(query: Mapping[str, str], name: str, choices: Collection[str], default: str) -> str:
    """Return a filter that is one of a few.

    Raises:
        BadFilter: it is none of them.
    """
    value = query.get(name, default)
    if value not in choices:
        raise BadFilter(f"{name}: must be one of {', '.join(choices)}, not {value!r}")
    return value


def days(query: Mapping[str, str], today: date, default: str = "30d") -> tuple[date, date]:
    """Return the days from `since` to `until`, both included; as 2026-11-22, or 30d: these and the last 30 days.

    Raises:
        BadFilter: they are not days, or not in this order, or too many.
    """
    last = min(_day("until", query["until"], today), today) if query.get("until") else today
    first = _day("since", query.get("since") or default, today)
    if first > last:
        raise BadFilter("since: must not be after until")
    if (last - first).days >= MOST_DAYS:
        raise BadFilter(f"since: a page shows {MOST_DAYS} days at most; `carpool usage` sums any number")
    return first, last


def _day(name: str, written: str, today: date) -> date:
    if ago := AGO.fullmatch(written):
        return today - timedelta(int(ago[1]) - 1)
    try:
        return date.fromisoformat(written)
    except ValueError:
        raise BadFilter(f"{name}: must be a day, as {today}, or as 30d for the last 30") from None


def number(query: Mapping[str, str], name: str) -> int:
    """Return a filter that is a whole number from 0 on.

    Raises:
        BadFilter: it is none.
    """
    written = query.get(name) or "0"
    if not (written.isascii() and written.isdigit() and len(written) < 10):
        raise BadFilter(f"{name}: must be a whole number, not {written!r}")
    return int(written)
