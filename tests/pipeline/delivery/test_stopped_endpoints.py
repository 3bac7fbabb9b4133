"""A receiver that fails for days is stopped and shown; one success and all is forgotten. On both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from tests.fixtures.deliveries import attempts, deliver, deliveries_by_id, given_deliveries, webhook

from carpool_worker import database
from carpool_worker.models import DeliveryRow, Endpoint
from carpool_worker.pipeline.delivery import claims
from carpool_worker.states import DeliveryState
from carpool_worker.store.deliveries import endpoints
from carpool_worker.store.deliveries import rows as deliveries
from carpool_worker.store.deliveries.endpoints import Health, Trouble

NOW = 1_800_000_000_000
DAY = 86_400_000
URL, OTHER = "https://billing.example.com/a", "https://billing.example.com/b"


def record_health(
    engine: sa.Engine, now: int, well: str = "", failing: str = "", gone: str = "", stop_after: int = 5 * DAY
) -> None:
    health = Health(*(frozenset(urls.split()) for urls in (well, failing, gone)))
    with database.write(engine) as connection:
        endpoints.record_health(connection, health, stop_after, now)


def troubles(engine: sa.Engine) -> list[Trouble]:
    with database.read(engine) as connection:
        return endpoints.troubles(connection)


def make_due(engine: sa.Engine) -> None:
    with database.write(engine) as connection:
        connection.execute(sa.update(DeliveryRow).values(due_at=0))
        deliveries.stage(connection, NOW)


def test_the_first_failure_since_the_last_success_counts(engine: sa.Engine) -> None:
    # When
    record_health(engine, NOW, failing=URL)
    record_health(engine, NOW + DAY, failing=f"{URL} {OTHER}")

    # Then
    assert troubles(engine) == [Trouble(URL, NOW, None, None), Trouble(OTHER, NOW + DAY, None, None)]


def test_a_success_forgets_the_failures_of_that_url_alone(engine: sa.Engine) -> None:
    # Given
    record_health(engine, NOW, failing=f"{URL} {OTHER}")

    # When: some fail and some succeed at the same time
    record_health(engine, NOW + 9 * DAY, well=URL, failing=URL)

    # Then
    assert [one.url for one in troubles(engine)] == [OTHER]


def test_a_url_that_fails_for_days_is_stopped_and_the_reason_says_since_when(engine: sa.Engine) -> None:
    # When
    record_health(engine, NOW, failing=f"{URL} {OTHER}")
    record_health(engine, NOW + 5 * DAY - 1, failing=URL)
    before = troubles(engine)
    record_health(engine, NOW + 5 * DAY, failing=URL)

    # Then
    assert [one.stopped_at for one in before] == [None, None]
    reason = "took no delivery since 2027-01-15 08:00:00 UTC"
    assert Trouble(URL, NOW, NOW + 5 * DAY, reason) in troubles(engine)
    assert Trouble(OTHER, NOW, None, None) in troubles(engine)


def test_410_stops_a_url_that_fails_already_and_the_first_reason_stays(engine: sa.Engine) -> None:
    # Given
    record_health(engine, NOW, failing=URL)

    # When
    record_health(engine, NOW + 1, failing=URL, gone=URL)
    record_health(engine, NOW + 2, failing=URL, gone=URL)
    record_health(engine, NOW + 3, well=URL)  # it was on its way when the URL was stopped

    # Then
    assert troubles(engine) == [Trouble(URL, NOW, NOW + 1, "answered 410")]


def test_a_stopped_url_is_started_and_forgotten(engine: sa.Engine) -> None:
    # Given
    record_health(engine, NOW, failing=f"{URL} {OTHER}", gone=URL)

    # When
    with database.write(engine) as connection:
        started = endpoints.start(connection, [URL, OTHER])

    # Then
    assert (started, troubles(engine)) == ([URL], [])


def test_couriers_that_record_the_same_urls_at_once_do_not_deadlock(engine: sa.Engine) -> None:
    # Given
    urls = [f"https://{number}.example.com/" for number in range(20)]
    halves = (" ".join(urls), " ".join(reversed(urls)))

    # When
    def courier(number: int) -> None:
        for step in range(10):
            record_health(
                engine, NOW + step, well=halves[number] if (step + number) % 2 else "", failing=halves[number]
            )

    with ThreadPoolExecutor(4) as couriers:
        list(couriers.map(courier, [0, 1, 0, 1]))

    # Then
    assert {one.stopped_at for one in troubles(engine)} <= {None}


def test_a_receiver_that_fails_for_days_gets_nothing_more_and_its_deliveries_say_why(
    engine: sa.Engine, receiver: Any
) -> None:
    # Given
    url = receiver.url("/down")
    receiver.answer("/down", 500)
    ids = given_deliveries(engine, webhook(url), webhook(url))
    deliver(engine)
    [failing] = troubles(engine)
    with database.write(engine) as connection:
        connection.execute(sa.update(Endpoint).values(failing_since=failing.failing_since - 6 * DAY))  # type: ignore[operator]

    # When: the next try fails too, and then comes the one after it
    make_due(engine)
    deliver(engine)
    posts = len(receiver.posts["/down"])
    make_due(engine)
    deliver(engine)

    # Then
    assert failing.stopped_at is None
    assert len(receiver.posts["/down"]) == posts
    rows = [deliveries_by_id(engine)[id_] for id_ in ids]
    assert {row.state for row in rows} == {DeliveryState.DISCARDED}
    assert all("its endpoint was stopped, it took no delivery since" in str(row.last_error) for row in rows)
    assert len(attempts(engine)) == posts


def test_a_receiver_that_works_again_is_forgotten(engine: sa.Engine, receiver: Any) -> None:
    # Given
    receiver.answer("/down", 500)
    given_deliveries(engine, webhook(receiver.url("/down")))
    deliver(engine)
    receiver.answer("/down", 200)

    # When
    make_due(engine)
    deliver(engine)

    # Then
    assert troubles(engine) == []


def test_outcomes_outlive_a_database_that_is_away_when_they_should_be_recorded(
    engine: sa.Engine, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    given_deliveries(engine, *[webhook(receiver.url("/in"))] * 5)
    monkeypatch.setattr("carpool_worker.pipeline.delivery.courier.RETRY_SECONDS", 0.1)
    record, failures = claims.record, iter([sa.exc.OperationalError("", None, Exception("away"))] * 3)

    def fail_first(*arguments: Any) -> None:
        for failure in failures:
            raise failure
        record(*arguments)

    monkeypatch.setattr(claims, "record", fail_first)

    # When
    count = deliver(engine)

    # Then
    assert count == len(receiver.posts["/in"]) == 5
    assert {row.state for row in deliveries_by_id(engine).values()} == {DeliveryState.DELIVERED}


def test_when_the_lease_is_over_a_courier_no_longer_waits_for_the_database(
    engine: sa.Engine, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    given_deliveries(engine, webhook(receiver.url("/in")))
    for name in ("RETRY_SECONDS", "RUN_SECONDS", "DRAIN_SECONDS", "LEASE_MARGIN_SECONDS"):
        monkeypatch.setattr(f"carpool_worker.pipeline.delivery.courier.{name}", 0.2)

    def fail(*arguments: Any) -> None:
        raise sa.exc.OperationalError("", None, Exception("away"))

    monkeypatch.setattr(claims, "record", fail)

    # When / Then
    with pytest.raises(sa.exc.OperationalError):
        deliver(engine, webhook_timeout=0.2)
