"""Sealed batches wait for a window, unless a request's max_wait says otherwise; the highest priority goes first."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from tests.fixtures.agents import MODEL, SUBMIT_POLICY, Carpool, request
from tests.fixtures.command_line import fits_80_columns, rows, succeeded
from tests.fixtures.queries import load_batch

from carpool import Producer, Request
from carpool_worker.database import now, read
from carpool_worker.metrics.readings import read_tables
from carpool_worker.pipeline.batching import aggregator
from carpool_worker.pipeline.submission import admission, submitter
from carpool_worker.policies.admission import SubmitPolicy
from carpool_worker.policies.limits import Limits
from carpool_worker.policies.windows import LEAD, Windows, next_opening, parse_all
from carpool_worker.settings import read_settings, settings
from carpool_worker.simulator import Fault, RemoteSimulator
from carpool_worker.tasks import agents, alarms, followups
from carpool_worker.units import Milliseconds

HOUR = 3_600_000
SONNET = "claude-sonnet-4-5"
NEVER_DUE = Limits(count=100_000, body_bytes=250_000_000, seconds=7 * 86_400.0)


@pytest.fixture
def windows() -> Windows:
    """One that is closed now, and opens for an hour in three to four hours."""
    hour = datetime.now(UTC).hour
    return parse_all([f"{(hour + 4) % 24:02}:00-{(hour + 5) % 24:02}:00"])


def given_batch(carpool: Carpool, producer: Producer, model: str = MODEL, **terms: Any) -> str:
    """A batch of two requests, of which one has these terms; returns its id."""
    producer.enqueue_many([Request(request("a", model), **terms), request("b", model)])
    carpool.aggregate()
    return str(carpool.rows(f"SELECT id FROM batches WHERE model = '{model}' ORDER BY id DESC")[0].id)


def policy(queue_limit: int, windows: Windows) -> SubmitPolicy:
    return replace(SUBMIT_POLICY, queue_limit=queue_limit, windows=windows)


def admitted(carpool: Carpool, windows: Windows, at: Milliseconds, queue_limit: int = 10) -> list[str]:
    with read(carpool.engine) as connection:
        return admission.admitted(connection, at, policy(queue_limit, windows))


def clocks_show(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    for module in (admission, aggregator, submitter):
        monkeypatch.setattr(module, "now", lambda: at)


def test_a_sealed_batch_waits_while_the_window_is_closed_and_goes_when_it_opens(
    carpool: Carpool, producer: Producer, windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    opening = next_opening(windows, now())
    assert opening
    batch_id = given_batch(carpool, producer)

    # When it is tried while the window is closed, Then it stays, and counts as no error
    assert carpool.submit_batch(batch_id, queue_limit=10, windows=windows) is None
    clocks_show(monkeypatch, opening.at - 1)
    assert carpool.submit_batch(batch_id, queue_limit=10, windows=windows) is None
    batch = load_batch(carpool.engine, batch_id)
    assert (batch.state, batch.last_error) == ("sealed", None)

    # When it opens, Then it goes
    clocks_show(monkeypatch, opening.at)
    assert carpool.submit_batch(batch_id, queue_limit=10, windows=windows)
    assert load_batch(carpool.engine, batch_id).state == "in_progress"


def test_a_window_that_closes_while_a_batchs_body_is_written_blocks_it(
    carpool: Carpool, producer: Producer, windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a batch that was admitted a moment ago, while the window was open
    batch_id = given_batch(carpool, producer)
    admitted_anyway = admission.Admission(load_batch(carpool.engine, batch_id))
    monkeypatch.setattr(submitter, "admit", lambda *_: admitted_anyway)

    # Then
    assert carpool.submit_batch(batch_id, queue_limit=10, windows=windows) is None
    assert load_batch(carpool.engine, batch_id).state == "sealed"


def test_one_whose_request_can_not_wait_goes_in_time_though_the_window_is_closed(
    carpool: Carpool, producer: Producer, windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a batch with a request that waits for an hour, and one that waits for the window
    hurried = given_batch(carpool, producer, max_wait=HOUR / 1_000)
    patient = given_batch(carpool, producer, SONNET)
    [leaves_at] = [row.submit_by - LEAD for row in carpool.rows("SELECT submit_by FROM requests") if row[0]]

    # Then it waits as long as it can, and goes then, alone
    assert admitted(carpool, windows, leaves_at - 1) == []
    assert admitted(carpool, windows, leaves_at) == [hurried]
    clocks_show(monkeypatch, leaves_at)
    assert carpool.submit_batch(hurried, queue_limit=10, windows=windows)
    assert carpool.submit_batch(patient, queue_limit=10, windows=windows) is None
    assert [load_batch(carpool.engine, one).state for one in (hurried, patient)] == ["in_progress", "sealed"]


def test_an_open_batch_is_sealed_in_time_for_the_request_that_waits_least(
    carpool: Carpool, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an open batch that others of its lane would leave open for days
    carpool.limits = NEVER_DUE
    batch_id = given_batch(carpool, producer, max_wait=7_200)
    assert given_batch(carpool, producer, max_wait=3_600) == batch_id
    assert given_batch(carpool, producer, max_wait=9_000) == batch_id
    earliest = carpool.rows("SELECT min(submit_by) AS at FROM requests")[0].at

    # When its time has not come, and when it has
    clocks_show(monkeypatch, earliest - LEAD - 1)
    carpool.aggregate()
    assert load_batch(carpool.engine, batch_id).state == "open"
    clocks_show(monkeypatch, earliest - LEAD)
    carpool.aggregate()

    # Then
    batch = load_batch(carpool.engine, batch_id)
    assert (batch.state, batch.submit_by) == ("sealed", earliest)


def test_an_open_batch_fills_while_the_window_is_closed_and_is_sealed_when_it_opens(
    carpool: Carpool, producer: Producer, windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    opening = next_opening(windows, now())
    assert opening
    carpool.limits = Limits(5, 250_000_000, 0, windows)
    batch_id = given_batch(carpool, producer)

    # When its time is over, Then it keeps filling, and a batch that is full is sealed
    clocks_show(monkeypatch, opening.at - 1)
    assert given_batch(carpool, producer) == batch_id
    filled = load_batch(carpool.engine, batch_id)
    assert (filled.state, filled.request_count) == ("open", 4)
    following = given_batch(carpool, producer)
    assert load_batch(carpool.engine, batch_id).state == "sealed"
    assert load_batch(carpool.engine, following).request_count == 1

    # When the window opens
    clocks_show(monkeypatch, opening.at)
    carpool.aggregate()

    # Then
    assert load_batch(carpool.engine, following).state == "sealed"


def test_the_higher_priority_goes_first_when_there_is_no_room_for_all(
    carpool: Carpool, producer: Producer
) -> None:
    # Given an old batch, and a younger one with a request of a higher priority
    low = given_batch(carpool, producer, priority=-5)
    high = given_batch(carpool, producer, SONNET, priority=7)
    assert [load_batch(carpool.engine, one).priority for one in (low, high)] == [0, 7]

    # When there is room for one, Then the younger goes; and one that waits for room is not overtaken by a lower one
    assert admitted(carpool, (), now(), queue_limit=3) == [high]
    carpool.change(f"UPDATE batches SET request_count = 4 WHERE id = id_of('{high}')")
    carpool.change(f"UPDATE batches SET state = 'submitting', submitting_at = 1 WHERE id = id_of('{low}')")
    third = given_batch(carpool, producer)
    assert admitted(carpool, (), now(), queue_limit=5) == []
    assert admitted(carpool, (), now(), queue_limit=8) == [high, third]


def test_within_a_lane_the_higher_priorities_fill_the_first_batches(
    carpool: Carpool, producer: Producer
) -> None:
    carpool.limits = Limits(2, 250_000_000, 3_600)
    wanted = [0, -9, 5, 0, 5, -9]
    producer.enqueue_many([Request(request(), priority=priority) for priority in wanted])

    carpool.aggregate()

    held = carpool.rows("SELECT priority FROM requests ORDER BY batch_id")
    assert [row.priority for row in held] == [5, 5, 0, 0, -9, -9]
    assert [row.priority for row in carpool.rows("SELECT priority FROM batches ORDER BY id")] == [5, 0, -9]


def test_a_retry_takes_its_urgency_along_and_so_do_the_parts_of_a_split_batch(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given a batch that Anthropic refuses as it is
    given_batch(carpool, producer, max_wait=60, priority=3)
    simulator.arm(Fault(operation="create", kind="error", status=413))
    carpool.submit()
    urgency = "SELECT priority, submit_by - (SELECT min(submit_by) FROM batches) AS late FROM batches"
    assert [tuple(row) for row in carpool.rows(urgency)] == [(3, 0)] * 3

    # When its requests are tried again
    for state in ("batched", "retryable"):
        at = "NULL" if state == "batched" else "1"
        carpool.change(f"UPDATE requests SET state = '{state}', retry_at = {at}")
    carpool.stage()

    # Then
    [again] = carpool.rows("SELECT priority, submit_by FROM batches WHERE state = 'open'")
    [asked] = carpool.rows("SELECT priority, submit_by FROM requests WHERE submit_by IS NOT NULL")
    assert tuple(again) == tuple(asked)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_tasks_go_by_the_setting(
    carpool: Carpool, producer: Producer, windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given the tasks of a worker whose windows are closed
    notified: dict[str, list[str]] = {}
    closed = read_settings(submit_windows=[windows[0].text])
    for name in ("engine", "server", "claude"):
        monkeypatch.setattr(agents, name, partial(getattr, carpool, name))
    monkeypatch.setattr(alarms, "engine", lambda: carpool.engine)
    monkeypatch.setattr(agents, "settings", lambda: closed)
    monkeypatch.setattr(followups, "publish", lambda ids: None)
    monkeypatch.setattr(followups, "notify", lambda agent, ids=(): notified.update({agent: list(ids)}))
    batch_id = given_batch(carpool, producer)

    # Then a message to submit does nothing, and no agent is notified
    agents.stage.apply(throw=True)
    agents.submit.apply((batch_id,), throw=True)
    assert (notified["submit"], load_batch(carpool.engine, batch_id).state) == ([], "sealed")

    # And without windows both proceed; the metrics know how long windows are closed at most
    monkeypatch.setattr(agents, "settings", read_settings)
    agents.stage.apply(throw=True)
    assert notified["submit"] == [batch_id]
    agents.submit.apply((batch_id,), throw=True)
    assert load_batch(carpool.engine, batch_id).state == "in_progress"
    closures = [read_tables(carpool.engine, one).longest_closed for one in (closed, read_settings())]
    assert closures == [23 * 3_600, 0]


@pytest.mark.usefixtures("command_line")
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_operator_sees_what_waits_for_a_window_and_can_let_it_go(
    carpool: Carpool, producer: Producer, windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given windows that are closed, and a batch that waits for them
    text, opening = windows[0].text, next_opening(windows, now())
    assert opening
    monkeypatch.setenv("CARPOOL_SUBMIT_WINDOWS", text)
    settings.cache_clear()
    batch_id = given_batch(carpool, producer, priority=2)

    # Then the commands say so
    [row] = rows("batches")
    assert row["waiting_for"].startswith("the window at ")
    assert row["waiting_for"].endswith(f":00:00 UTC ({text})")
    shown = succeeded("status")
    assert fits_80_columns(shown)
    assert "closed until " in shown
    [asked] = [one["id"] for one in rows("requests") if one["priority"]]
    assert "priority: 2" in succeeded("requests", "show", asked)

    # And when the operator wants it to go, it goes
    assert admitted(carpool, windows, now()) == []
    assert succeeded("flush", "--now") == "0 batches sealed.\nNo longer waiting for a window: 1 batch.\n"
    assert rows("batches")[0]["waiting_for"] == "a worker to post it"
    assert admitted(carpool, windows, now()) == [batch_id]
