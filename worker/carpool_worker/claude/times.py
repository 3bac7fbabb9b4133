"""Times of the API: how long a call may take, and what its answers say of times.

Apart from client.py, as the SDK takes seconds to import.
"""

from __future__ import annotations

from datetime import datetime
from email.utils import parsedate_to_datetime


def seconds_between(then: int | None, now: int | None) -> float:
    """Return the seconds from one time of the API's clock to another, 0 where either is not known."""
    return 0.0 if then is None or now is None else (now - then) / 1000


def date(header: str | None) -> int | None:
    """Return the milliseconds since the epoch that a Date header says (RFC 9110, section 6.6.1), else None."""
    try:
        return milliseconds(parsedate_to_datetime(header or ""))
    except ValueError:
        return None


def delay(header: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for, or None where it asks for none."""
    try:
        return max(0.0, float(header or ""))
    except ValueError:
        return None


def milliseconds(moment: datetime) -> int:
    """Return a moment as the tables keep it, in milliseconds since the epoch."""
    return int(moment.timestamp() * 1000)
