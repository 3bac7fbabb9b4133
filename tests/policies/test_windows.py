"""When windows are open: by the local time of their zone, through every change of the clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carpool_worker.exceptions import SettingsInvalid
from carpool_worker.policies.windows import (
    DAYS,
    LEAD,
    MINUTE,
    blocks,
    is_open,
    longest_closed,
    next_opening,
    parse,
    parse_all,
)
from carpool_worker.settings import read_settings
from carpool_worker.units import Milliseconds

NIGHTS = "22:00-06:00 Europe/Berlin"
WEEK = 7 * 86_400_000


def ms(written: str) -> Milliseconds:
    return Milliseconds(int(datetime.fromisoformat(written).replace(tzinfo=UTC).timestamp() * 1_000))


@pytest.mark.parametrize(
    ("text", "at", "opens"),
    [
        ("22:00-06:00", "2026-11-22T21:59:59.999", "2026-11-22T22:00"),
        ("22:00-06:00", "2026-11-22T22:00", None),
        ("22:00-06:00", "2026-11-23T05:59:59.999", None),
        ("22:00-06:00", "2026-11-23T06:00", "2026-11-23T22:00"),
        (NIGHTS, "2026-11-22T12:00", "2026-11-22T21:00"),
        (NIGHTS, "2026-07-22T12:00", "2026-07-22T20:00"),
        ("Sat-Sun Europe/Berlin", "2026-11-22T22:59", None),
        ("Sat-Sun Europe/Berlin", "2026-11-22T23:00", "2026-11-27T23:00"),
        ("fri-mon", "2026-11-24T00:00", "2026-11-27T00:00"),
        ("fri-mon", "2026-11-30T23:59", None),
        ("Wed America/New_York", "2026-11-22T00:00", "2026-11-25T05:00"),
        ("9:00-17:30", "2026-11-22T17:30", "2026-11-23T09:00"),
        ("12:00-24:00", "2026-11-22T23:59", None),
        ("12:00-00:00", "2026-11-23T00:00", "2026-11-23T12:00"),
    ],
)
def test_a_window_opens_when_its_text_says(text: str, at: str, opens: str | None) -> None:
    found = next_opening((parse(text),), ms(at))

    assert (found.at if found else None) == (ms(opens) if opens else None)


def test_hours_past_midnight_belong_to_the_day_on_which_they_began() -> None:
    friday = parse_all(["Fri 22:00-06:00"])

    assert is_open(friday, ms("2026-11-28T05:59"))  # a Saturday
    assert not is_open(friday, ms("2026-11-27T05:59"))
    assert next_opening(friday, ms("2026-11-27T05:59")) == (ms("2026-11-27T22:00"), friday[0])


def test_several_are_open_where_one_is_and_none_at_all_always() -> None:
    both = parse_all(["22:00-06:00", "Sat-Sun 12:00-13:00 Europe/Berlin"])

    assert next_opening(both, ms("2026-11-22T10:00")) == (ms("2026-11-22T11:00"), both[1])
    assert next_opening(both, ms("2026-11-23T10:00")) == (ms("2026-11-23T22:00"), both[0])
    assert next_opening((), Milliseconds(0)) is None


def test_windows_block_a_batch_until_they_open_or_its_time_has_come() -> None:
    nights, noon, night = parse_all(["22:00-06:00"]), ms("2026-11-22T12:00"), ms("2026-11-22T22:00")

    assert blocks(nights, None, noon)
    assert not blocks(nights, None, night)
    assert blocks(nights, noon + LEAD + 1, noon)
    assert not blocks(nights, noon + LEAD, noon)
    assert not blocks((), None, noon)


def test_a_change_of_the_clocks_skips_what_it_skips_and_repeats_what_it_repeats() -> None:
    # Given hours within those that Berlin skips on 2026-03-29 and repeats on 2026-10-25
    within, beyond = (parse_all([f"{hours} Europe/Berlin"]) for hours in ("02:15-02:45", "02:30-04:00"))

    # Then in spring one stays closed for that day, and the other opens when the clock jumps to 03:00
    assert next_opening(within, ms("2026-03-28T12:00")) == (ms("2026-03-30T00:15"), within[0])
    assert next_opening(beyond, ms("2026-03-28T12:00")) == (ms("2026-03-29T01:00"), beyond[0])

    # And in autumn it opens twice, an hour apart
    assert next_opening(within, ms("2026-10-24T12:00")) == (ms("2026-10-25T00:15"), within[0])
    assert next_opening(within, ms("2026-10-25T00:45")) == (ms("2026-10-25T01:15"), within[0])


def test_one_that_its_only_day_skips_opens_a_week_later() -> None:
    sundays = parse_all(["Sun 02:15-02:45 Europe/Berlin"])

    assert next_opening(sundays, ms("2026-03-22T01:45")) == (ms("2026-04-05T00:15"), sundays[0])


texts = st.builds(
    "{}{} {}".format,
    st.sampled_from(["", *DAYS, "mon-fri ", "sat-sun ", "fri-mon "]),
    st.tuples(st.integers(0, 23), st.integers(0, 59), st.integers(0, 23), st.integers(0, 59))
    .filter(lambda time: time[:2] != time[2:])
    .map(lambda time: " {:02}:{:02}-{:02}:{:02}".format(*time)),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]),
)
moments = st.integers(ms("2026-01-01T00:00"), ms("2028-01-01T00:00")).map(Milliseconds)


@given(st.lists(texts, min_size=1, max_size=3), moments)
@settings(deadline=None, max_examples=50)  # up to a week is searched minute by minute
def test_at_an_opening_they_open_and_between_now_and_then_they_are_closed(
    written: list[str], at: Milliseconds
) -> None:
    windows = parse_all(written)

    found = next_opening(windows, at)

    assert (found is None) == is_open(windows, at)
    if found:
        assert at < found.at <= at + 2 * WEEK
        assert found.window.is_open(found.at)
        assert not is_open(windows, Milliseconds(found.at - MINUTE))
        middle = Milliseconds(at + (found.at - at) // 2)
        assert next_opening(windows, middle) == found


@given(texts, moments)
def test_what_is_open_is_what_the_local_time_says(text: str, at: Milliseconds) -> None:
    # Given another reading of the text: the span that began today or yesterday, by local time
    days, hours, zone = text.rsplit(" ", 2)
    local = datetime.fromtimestamp(at / 1_000, ZoneInfo(zone)).replace(tzinfo=None)
    spans = []
    for date in (local.date(), local.date() - timedelta(days=1)):
        begin, end = (datetime.fromisoformat(f"{date}T{time}") for time in hours.split("-"))
        if f"{date:%a}".lower() in expanded(days.strip()):
            spans.append((begin, end if end > begin else end + timedelta(days=1)))

    # Then
    assert parse(text).is_open(at) == any(begin <= local < end for begin, end in spans)


def expanded(days: str) -> list[str]:
    first, _, last = days.partition("-")
    if not first:
        return list(DAYS)
    twice = [*DAYS, *DAYS]
    begin = twice.index(first)
    return twice[begin : twice.index(last or first, begin) + 1]


@pytest.mark.parametrize(
    ("texts", "hours"),
    [([], 0), (["22:00-06:00"], 16), (["Sat-Sun"], 120), (["22:00-06:00", "Sat-Sun"], 16), (["Mon-Sun"], 0)],
)
def test_the_longest_time_closed_is_that_between_two_openings(texts: list[str], hours: int) -> None:
    assert longest_closed(parse_all(texts), ms("2026-11-22") // 86_400_000) == hours * 3_600


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("22:00", "must be days, hours or both, then a time zone"),
        ("Europe/Berlin", "must be days, hours or both"),
        ("Mo-Fr 22:00-06:00", "must be days, hours or both"),
        ("22:00-06:00 UTC UTC", "must be days, hours or both"),
        ("25:00-06:00", "'25:00': must be a time from 00:00 to 24:00"),
        ("22:00-06:75", "'06:75': must be a time"),
        ("22:00-22:00", "must end at another time than it begins; a whole day is 00:00-24:00"),
        ("24:00-06:00", "must end at another time"),
        ("22:00-06:00 Berlin", "'Berlin': must be a time zone by its IANA name, such as Europe/Berlin"),
        ("22:00-06:00 Europe", "'Europe': must be a time zone"),
        ("22:00-06:00 ../etc/passwd", "must be a time zone"),
    ],
)
def test_a_window_that_is_none_is_refused_with_the_rule(
    value: str, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARPOOL_SUBMIT_WINDOWS", f"Sat, {value}")

    with pytest.raises(SettingsInvalid) as refused:
        read_settings()

    assert rule in str(refused.value)
    assert "submit_windows.1 (environment: CARPOOL_SUBMIT_WINDOWS)" in str(refused.value)


def test_windows_come_from_the_environment_with_commas_between(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_settings().submit_windows == []
    monkeypatch.setenv("CARPOOL_SUBMIT_WINDOWS", f"{NIGHTS}, Sat-Sun")

    assert read_settings().submit_windows == [NIGHTS, "Sat-Sun"]
