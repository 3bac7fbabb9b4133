"""A Retry-After header is seconds or a date (RFC 9110), or says nothing: whatever it says, it breaks nobody."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool_worker.policies.retry_after import parse_http_date, parse_retry_after

NOW = datetime(2027, 1, 15, 8, 0, tzinfo=UTC)
CENTURY = 36_525 * 86_400
"""Seconds."""


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("120", 120.0),
        (" 120 ", 120.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 60.0),
        ("Friday, 15-Jan-27 08:01:00 GMT", 60.0),
        ("Fri Jan 15 08:01:00 2027", 60.0),
        ("Fri, 15 Jan 2027 09:01:00 +0100", 60.0),
        ("Fri, 15 Jan 2027 08:01:00 -0000", 60.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Fri, 15 Jan 2037 08:00:00 GMT", 315_619_200.0),
        ("315360000", 315_360_000.0),
        ("9" * 400, float("inf")),
        ("soon", None),
        ("-5", None),
        ("-0.0", None),
        ("+5", None),
        ("1e3", None),
        ("0x10", None),
        ("1_000", None),
        ("٣", None),
        ("nan", None),
        ("inf", None),
        ("Infinity", None),
        ("Fri, 15 Jan 999999999999 08:00:00 GMT", None),
        ("Fri, 32 Jan 2027 08:00:00 GMT", None),
        ("Fri, 15 Jan 2027 08:00:00 +9999", None),
        ("", None),
        (" ", None),
    ],
)
def test_it_may_be_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


@given(
    st.text()
    | st.floats().map(str)
    | st.from_regex(r"[A-Z][a-z]{2}, \d{1,2} [A-Z][a-z]{2} \d{1,5} \d\d:\d\d:\d\d [+-]\d{4,6}")
)
def test_whatever_it_says_it_is_nothing_or_no_less_than_0(value: str) -> None:
    seconds = parse_retry_after(value, NOW)

    assert seconds is None or (seconds >= 0 and not math.isnan(seconds))


@given(st.integers(0, 10**12))
def test_whole_seconds_are_what_they_say(seconds: int) -> None:
    assert parse_retry_after(str(seconds), NOW) == seconds


@given(
    now=st.integers(0, CENTURY).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    wait=st.integers(-CENTURY, CENTURY),
)
def test_a_date_is_the_time_until_then_by_the_clock_it_is_compared_with(now: datetime, wait: int) -> None:
    header = format_datetime(now + timedelta(seconds=wait), usegmt=True)

    assert parse_retry_after(header, now) == max(0, wait)


@given(st.text())
def test_a_date_that_can_be_read_has_a_time_zone(value: str) -> None:
    moment = parse_http_date(value)

    assert moment is None or moment.tzinfo is not None
