"""Times in the API's answers. Kept apart from client.py, because the SDK takes seconds to import."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from carpool_worker.policies.retry_after import parse_http_date, parse_retry_after
from carpool_worker.units import SECOND, Milliseconds


def seconds_between(then: int | None, now: int | None) -> float:
    """Return the seconds from `then` to `now`, both milliseconds by the API's clock; 0 if either is unknown."""
    return 0.0 if then is None or now is None else (now - then) / SECOND


def answered_at(headers: Mapping[str, str]) -> datetime | None:
    """Return when an answer was sent, by the API's own clock: its Date header (RFC 9110, section 6.6.1)."""
    return parse_http_date(headers.get("date"))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that an answer asks to wait, or None; a date is compared with the answer's own Date."""
    return parse_retry_after(headers.get("retry-after"), answered_at(headers) or datetime.now(UTC))


def milliseconds(moment: datetime) -> Milliseconds:
    """Return a moment in milliseconds since the epoch, as the tables store it."""
    return Milliseconds(int(moment.timestamp() * SECOND))
