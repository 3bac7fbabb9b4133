"""Reads a Retry-After header (RFC 9110, section 10.2.3)."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks for (a number or an HTTP date, RFC 9110), None if neither."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)  # of too many digits: infinite
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # a year of twelve digits
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds())
