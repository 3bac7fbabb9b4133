"""The last day by hour: what was answered, and within which time."""

from __future__ import annotations

from tests.fixtures.agents import Carpool, request
from tests.fixtures.plans import explained

from carpool import Producer
from carpool_worker.database import now, read
from carpool_worker.views.last_day import HourOfDay, answer_times_chart, last_day, throughput_chart


def test_the_last_hour_has_what_was_answered(carpool: Carpool, producer: Producer) -> None:
    for n in range(3):
        producer.enqueue(request(f"Hello {n}"))
    carpool.until(lambda: carpool.ended(3))

    with explained(carpool.engine) as plans, read(carpool.engine) as connection:
        hours = last_day(connection, now())

    assert len(hours) == 24
    assert sum(one.succeeded for one in hours) == 3
    (answered,) = [one for one in hours if one.succeeded]
    assert answered.half_within is not None
    assert answered.most_within is not None
    assert 0 <= answered.half_within <= answered.most_within < 600
    assert plans.whole == {}


def test_the_charts_have_the_same_numbers_light_and_dark() -> None:
    hours = [HourOfDay(now(), 12, 1, 60.0, 300.0)]

    bars, lines = throughput_chart(hours), answer_times_chart(hours)

    for theme in ("light", "dark"):
        assert [one["requests"] for one in bars[theme]["data"]["values"]] == [12, 1]
        assert [one["minutes"] for one in lines[theme]["data"]["values"]] == [1.0, 5.0]
    domain = lines["light"]["encoding"]["x"]["scale"]["domain"]
    assert all(one["expr"].startswith("toDate(") for one in domain)  # a number would be a year: see _lines
    assert bars["light"]["config"]["background"] != bars["dark"]["config"]["background"]
