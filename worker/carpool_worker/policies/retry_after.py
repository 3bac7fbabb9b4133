"""Reads Retry-After headers, which are seconds or a date, and HTTP dates (RFC 9110)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")
"""RFC 9110 allows whole seconds only, but some servers send fractions, and their meaning is plain."""


def parse_retry_after(header: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks for, or None if it is missing or unreadable.

    A date is compared with `now`: preferably the answer's own Date, since clocks differ. A date in the past gives 0. A
    number with hundreds of digits gives infinity, so callers must cap the wait.
    """
    text = (header or "").strip()
    if SECONDS.fullmatch(text):
        return float(text)
    moment = parse_http_date(text)
    return None if moment is None else max(0.0, (moment - now).total_seconds())


def parse_http_date(header: str | None) -> datetime | None:
    """Return the moment of an HTTP date in any of its three forms (RFC 9110, section 5.6.7), or None if it is none."""
    try:
        moment = parsedate_to_datetime(header or "")
    except (ValueError, OverflowError):  # OverflowError: a year of twelve digits
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC)
