"""A request's deadline has its batch sent as late as it can be, and no later."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from tests.fixtures.agents import AT_ONCE, IN_AN_HOUR, MODEL, Carpool, request
from tests.fixtures.command_line import rows, succeeded
from tests.fixtures.queries import load_batch

from carpool import InvalidRequest, Producer, Request
from carpool_worker.database import now, read, write
from carpool_worker.exceptions import SettingsInvalid
from carpool_worker.pipeline.batching import aggregator, deadlines
from carpool_worker.pipeline.submission import admission
from carpool_worker.policies.deadlines import DeadlineRule
from carpool_worker.policies.windows import Windows, parse_all
from carpool_worker.settings import read_settings
from carpool_worker.store import durations
from carpool_worker.store.batches import transitions
from carpool_worker.units import SECOND, Milliseconds, after

RULE = DeadlineRule()
HALF_AN_HOUR = 1_800


@pytest.fixture
def unhurried(carpool: Carpool) -> Carpool:
    """Batches are sealed when they are an hour old, or by a deadline."""
    carpool.limits = IN_AN_HOUR
    return carpool


def given_batches_took(engine: sa.Engine, seconds: float) -> None:
    with write(engine) as connection:
        for _ in range(20):
            durations.learn(connection, MODEL, now(), Milliseconds(round(seconds * SECOND)))


def open_batch(carpool: Carpool) -> str:
    return str(carpool.rows("SELECT id FROM batches WHERE state = 'open'")[0].id)


def state_at(carpool: Carpool, monkeypatch: pytest.MonkeyPatch, batch_id: str, at: Milliseconds) -> str:
    """The batch's state when the aggregator has looked at it at that time."""
    with monkeypatch.context() as clock:
        clock.setattr(aggregator, "now", lambda: at)
        aggregator.seal_due(carpool.engine, carpool.limits)
    return str(load_batch(carpool.engine, batch_id).state)


def test_its_batch_is_sent_when_a_later_one_would_be_late_and_not_before(
    unhurried: Carpool, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given batches that take half an hour, and a request that is due in 55 minutes beside one that is not
    given_batches_took(unhurried.engine, HALF_AN_HOUR)
    producer.enqueue_many([request("a"), Request(request("b"), deadline=3_300)])
    unhurried.aggregate()
    batch_id = open_batch(unhurried)
    with read(unhurried.engine) as connection:
        [leaves_at] = deadlines.leave_at(connection, RULE).values()

    # Then it is to leave some 25 minutes from now, and the aggregator is woken for it
    assert (leaves_at - now()) / SECOND == pytest.approx(3_300 - HALF_AN_HOUR, rel=0.1)
    assert aggregator.seconds_until_due(unhurried.engine, unhurried.limits) == pytest.approx(
        (leaves_at - now()) / SECOND, abs=5
    )

    # When that time comes, Then it is sealed
    assert state_at(unhurried, monkeypatch, batch_id, after(leaves_at, -1)) == "open"
    assert state_at(unhurried, monkeypatch, batch_id, leaves_at) == "sealed"
    assert load_batch(unhurried.engine, batch_id).request_count == 2


def test_the_earliest_deadline_of_a_batch_counts_and_urgent_requests_share_one(
    unhurried: Carpool, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given requests of which one can hardly be in time
    given_batches_took(unhurried.engine, HALF_AN_HOUR)
    for wait in (7_200, 1_000, 3_600):
        producer.enqueue(request(), deadline=wait)
    unhurried.aggregate()
    batch_id = open_batch(unhurried)
    batch = load_batch(unhurried.engine, batch_id)
    assert batch.deadline is not None
    assert (batch.deadline - now()) / SECOND == pytest.approx(1_000, abs=20)

    # Then it stays open for some seconds, as others may be as urgent
    opened = Milliseconds(batch.opened_at)
    assert state_at(unhurried, monkeypatch, batch_id, after(opened, 4)) == "open"
    assert state_at(unhurried, monkeypatch, batch_id, after(opened, 5)) == "sealed"


def test_it_leaves_outside_the_windows(
    unhurried: Carpool, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a sealed batch that waits for a window
    hour = datetime.now(UTC).hour
    windows = parse_all([f"{(hour + 4) % 24:02}:00-{(hour + 5) % 24:02}:00"])
    given_batches_took(unhurried.engine, HALF_AN_HOUR)
    producer.enqueue(request(), deadline=3_600)
    unhurried.aggregate()
    batch_id = open_batch(unhurried)
    with write(unhurried.engine) as connection:
        transitions.seal(connection, batch_id, now())
    assert admitted(unhurried, windows) == []

    # When another one, sent later, would be late, Then it goes
    at = after(now(), 3_600 - HALF_AN_HOUR)
    with monkeypatch.context() as clock:
        clock.setattr(aggregator, "now", lambda: at)
        aggregator.seal_due(unhurried.engine, unhurried.limits)
    assert admitted(unhurried, windows, at) == [batch_id]


def admitted(carpool: Carpool, windows: Windows, at: Milliseconds | None = None) -> list[str]:
    with read(carpool.engine) as connection:
        return admission.admitted(connection, at or now(), replace(carpool.submit_policy, windows=windows))


@pytest.mark.usefixtures("command_line")
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_operators_see_when_its_batch_leaves_and_whether_it_was_late(
    unhurried: Carpool, producer: Producer
) -> None:
    # Given
    given_batches_took(unhurried.engine, HALF_AN_HOUR)
    due = datetime.now(UTC) + timedelta(hours=1)
    request_id = producer.enqueue(request(), deadline=due, deadline_policy="batch")
    unhurried.aggregate()

    # Then
    [shown] = rows("requests")
    assert shown["deadline"].startswith(due.isoformat()[:19])
    told = succeeded("requests", "show", request_id)
    assert "deadline: " in told
    assert "(batch)" in told
    assert "(its deadline is " in told

    # When it ends after its deadline
    unhurried.change("UPDATE requests SET deadline = 1")
    unhurried.limits = AT_ONCE
    unhurried.until(lambda: bool(unhurried.rows("SELECT 1 FROM requests WHERE state = 'completed'")))
    assert "late" in succeeded("requests", "show", request_id)
    assert json.loads(succeeded("requests", "show", request_id, "--json"))["is_late"]


@pytest.mark.parametrize(
    ("deadline", "rule"),
    [
        (0, "more than 0"),
        (31 * 86_400, "30 days"),
        (float("nan"), "more than 0"),
        (True, "seconds from now"),
        ("tomorrow", "seconds from now"),
        (datetime(2026, 1, 1), "with its time zone"),  # noqa: DTZ001
        (datetime(2026, 1, 1, tzinfo=UTC), "in the future"),
        (datetime.max.replace(tzinfo=UTC), "30 days from now at most"),
    ],
)
def test_a_deadline_that_can_not_be_is_refused(producer: Producer, deadline: Any, rule: str) -> None:
    with pytest.raises(InvalidRequest, match=rule) as refused:
        producer.enqueue(request(), deadline=deadline)

    assert refused.value.field == "deadline"


def test_a_policy_that_there_is_not_is_refused(producer: Producer) -> None:
    with pytest.raises(InvalidRequest, match="one of call, batch, pay_again"):
        producer.enqueue(request(), deadline=60, deadline_policy="never")  # type: ignore[arg-type]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_requests_that_name_none_have_that_of_their_client(carpool: Carpool, redis_url: str) -> None:
    # Given a client with a deadline of its own, and one for all others
    rule = read_settings(deadlines={"billing": 600, "default": 7_200}).deadline_rule
    carpool.limits = replace(IN_AN_HOUR, deadlines=rule)
    for client in ("billing", "search"):
        with Producer(redis_url, client=client) as own:
            own.enqueue(request())
            own.enqueue(request(), deadline=3_600)

    # When
    carpool.aggregate()

    # Then
    waits = "SELECT client, (deadline - enqueued_at) / 1000 AS wait FROM requests ORDER BY client, wait"
    given = [("billing", 600), ("billing", 3_600), ("search", 3_600), ("search", 7_200)]
    assert [tuple(row) for row in carpool.rows(waits)] == given


def test_a_default_for_what_is_no_client_is_refused() -> None:
    for wrong in ({"no client": 60}, {"billing": 0}, {"billing": 31 * 86_400}):
        with pytest.raises(SettingsInvalid, match="deadlines"):
            read_settings(deadlines=wrong)
