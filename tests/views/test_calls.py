"""Calls in real time are shown: on the screen, to programs and Prometheus, as an alert, and in advice on their cost."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from tests.fixtures.agents import MODEL, Carpool
from tests.fixtures.calls import Calling, calling, pooled
from tests.fixtures.command_line import fits_80_columns, rows, succeeded

from carpool import Producer
from carpool_worker.database import now, write
from carpool_worker.metrics.calls import of_calls
from carpool_worker.metrics.readings import read_tables
from carpool_worker.settings import settings
from carpool_worker.simulator import Fault, RemoteSimulator
from carpool_worker.store import durations
from carpool_worker.units import SECOND, Milliseconds
from carpool_worker.views.alerts import AlertKind, alerts
from carpool_worker.views.status import status

__all__ = ["calling"]

MINUTE = 60_000


def samples(carpool: Carpool) -> dict[tuple[str, str], float]:
    """Return the values of the metrics by their names and states or quantiles."""
    readings = read_tables(carpool.engine, settings())
    return {
        (
            one.name.removeprefix("carpool_"),
            one.labels.get("state") or one.labels.get("quantile", ""),
        ): one.value
        for family in of_calls(readings.calls, readings.used_each_way)
        for one in family.samples
    }


@pytest.mark.usefixtures("command_line")
def test_operators_see_calls_that_wait_are_made_and_were_lost(
    unhurried: Carpool, calling: Calling, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given a call that is answered, one that is lost, one that is being made, and two that wait
    for fault in (None, Fault(operation="messages", kind="lost")):
        calling.take_out(*pooled(unhurried, producer, f"Hurry {fault}"))
        simulator.arm(*([fault] if fault else []))
        calling.call()
    calling.take_out(*pooled(unhurried, producer, "One", "Two", "Three"))
    assert len(calling.claim("somebody", lease_until=now() + MINUTE)) == 1
    # Then the screen has them, and so have programs
    shown = succeeded("status")
    assert "2 queued · 1 being made · 1 lost in 24 h · 95 % within" in shown
    assert fits_80_columns(shown)
    (told,) = json.loads(succeeded("status", "--json"))["calls"]
    assert (told["account"], told["model"]) == ("default", MODEL)
    assert (told["queued"], told["calling"], told["lost"]) == (2, 1, 1)
    # And Prometheus
    seen = samples(unhurried)
    assert (seen["calls", "queued"], seen["calls", "calling"]) == (2, 1)
    assert (seen["calls_lost_in_a_day", ""], seen["calls_answered_total", ""]) == (1, 1)
    assert 0 < seen["call_seconds", "0.95"] < 20
    # And the lost one needs an operator
    found = alerts(status(unhurried.engine, unhurried.server, settings()))
    (alert,) = (one for one in found if one.kind is AlertKind.CALLS_LOST)
    assert str(alert) == (
        "1 answer of a call in real time was lost since yesterday, and may have been billed: "
        "carpool requests --error answer_lost"
    )
    assert len(rows("requests", "--error", "answer_lost")) == 1


def advice() -> list[dict[str, object]]:
    found = (json.loads(line) for line in succeeded("advise", "--json").splitlines())
    return [one for one in found if one["kind"] == "short_deadlines"]


@pytest.mark.usefixtures("command_line")
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_advise_says_what_deadlines_cost_and_which_could_be_longer(
    unhurried: Carpool, calling: Calling, producer: Producer
) -> None:
    # Given batches of which 95 % take up to forty minutes, and calls for deadlines of ten
    with write(unhurried.engine) as connection:
        for number in range(20):
            seconds = 2_400 if number % 10 == 0 else 600
            durations.learn(connection, MODEL, now(), Milliseconds(seconds * SECOND))
    ids = pooled(unhurried, producer, *(f"Question {number}" for number in range(6)))
    calling.take_out(*ids, deadline=10 * MINUTE)
    calling.call()
    # When
    (found,) = advice()
    # Then
    facts = found["facts"]
    assert isinstance(facts, dict)
    assert facts["calls"] == 6
    assert Decimal(facts["more_than_batches"]) * 2 == Decimal(facts["paid"]) > 0
    assert facts["deadline_median"] == pytest.approx(600, abs=5)
    assert 2_400 <= facts["batches_need"] <= facts["deadline_advised"] < 3_300
    assert facts["deadline_advised"] % 300 == 0
    shown = succeeded("advise")
    assert "6 requests paid the full price for a deadline" in shown.replace("\n", " ")


@pytest.mark.usefixtures("command_line")
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_advise_tells_deadlines_that_were_long_enough_from_others(
    unhurried: Carpool, calling: Calling, producer: Producer
) -> None:
    # Given batches that take a minute, and calls for deadlines of an hour
    with write(unhurried.engine) as connection:
        for _ in range(10):
            durations.learn(connection, MODEL, now(), Milliseconds(60 * SECOND))
    calling.take_out(*pooled(unhurried, producer, *map(str, range(6))))
    calling.call()
    # Then
    (found,) = advice()
    assert "long enough for a batch" in str(found["how"])
    assert found["facts"]["deadline_advised"] is None  # type: ignore[index]
