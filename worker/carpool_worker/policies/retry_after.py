"""Reads the dates and delays of HTTP headers (RFC 9110): Retry-After, and the dates that it may be given as."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")
"""RFC 9110 knows whole seconds only; some servers send fractions, and what they mean is plain."""


def parse_retry_after(header: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks for, or None where it says nothing readable.

    `now` is what a date is compared with, best the answer's own Date: two clocks differ. A date that is past is 0. A
    number of too many digits is infinite: every caller has a longest wait.
    """
    text = (header or "").strip()
    if SECONDS.fullmatch(text):
        return float(text)
    moment = parse_http_date(text)
    return None if moment is None else max(0.0, (moment - now).total_seconds())


def parse_http_date(header: str | None) -> datetime | None:
    """Return the moment of an HTTP date (RFC 9110, section 5.6.7: any of its three forms), or None if it is none."""
    try:
        moment = parsedate_to_datetime(header or "")
    except (ValueError, OverflowError):  # OverflowError: a year of twelve digits
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC)
