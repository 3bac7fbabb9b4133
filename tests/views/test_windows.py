"""A week of submit windows, and how long batches took hour by hour: as a page shows them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
import sqlalchemy as sa

from carpool_worker.database import read, write
from carpool_worker.policies.windows import parse_all
from carpool_worker.store import durations
from carpool_worker.units import SECOND, Milliseconds
from carpool_worker.views.duration_charts import durations_chart
from carpool_worker.views.durations import by_hour
from carpool_worker.views.windows import OpenPart, week

MODEL = "claude-haiku-4-5"


def at(text: str) -> Milliseconds:
    return Milliseconds(round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * SECOND))


def test_a_week_of_windows_is_in_utc_with_its_changes_of_clocks() -> None:
    # Given nights of the week in Berlin, and the week in which its clocks go back, on Sunday the 25th at 01:00 UTC
    windows = parse_all(["Mon-Sun 22:00-06:00 Europe/Berlin"])

    # When
    found = week(windows, at("2026-10-23T12:00"))

    # Then
    assert [len(day.open) for day in found.days] == [2] * 7
    assert found.days[0].open == [OpenPart(0, 4 * 60), OpenPart(20 * 60, 24 * 60)]
    assert found.days[2].open == [OpenPart(0, 5 * 60), OpenPart(21 * 60, 24 * 60)]
    assert str(found.days[2].open[0]) == "00:00 to 05:00"
    assert (found.is_open, found.opens_at) == (False, at("2026-10-23T20:00"))


def test_without_windows_every_day_is_open() -> None:
    found = week((), at("2026-10-23T12:00"))

    assert [day.open for day in found.days] == [[OpenPart(0, 24 * 60)]] * 7
    assert found.is_open


def test_durations_are_shown_by_the_hour_in_which_they_were_learned(engine: sa.Engine) -> None:
    # Given
    with write(engine) as connection:
        for hour, minutes in ((3, 10), (3, 10), (3, 60), (15, 30)):
            posted = at(f"2026-10-23T{hour:02}:30")
            durations.learn(connection, MODEL, posted, Milliseconds(minutes * 60 * SECOND))

    # When
    with read(engine) as connection:
        [of] = by_hour(connection)

    # Then
    assert [one.hour for one in of.hours if one.half_within] == [3, 15]
    assert of.hours[3].half_within == pytest.approx(600, rel=0.1)
    assert of.hours[3].most_within == pytest.approx(3_600, rel=0.1)
    points = durations_chart([of])["light"]["data"]["values"]
    assert [(one["hour"], one["within"]) for one in points] == [
        (3, "half within"),
        (3, "95 % within"),
        (15, "half within"),
        (15, "95 % within"),
    ]
    assert Decimal(points[0]["minutes"]) == pytest.approx(Decimal(10), rel=Decimal("0.1"))
