"""`carpool batches`: what it lists, and what it says each batch waits for."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa
from tests.fixtures.agents import Carpool, request
from tests.fixtures.command_line import rows, run, succeeded
from tests.fixtures.queries import batch_ids

from carpool import Producer
from carpool_worker import settings
from carpool_worker.simulator import Fault, RemoteSimulator

pytestmark = pytest.mark.usefixtures("command_line")

OTHER_MODEL = "claude-sonnet-4-5"


def given_batches(carpool: Carpool, producer: Producer, *models: str) -> list[str]:
    for model in models:
        producer.enqueue_many([request("SECRET", model), request("b", model)])
        carpool.aggregate()
    return batch_ids(carpool.engine)


def test_the_newest_come_last_and_pages_and_filters_choose(carpool: Carpool, producer: Producer) -> None:
    ids = given_batches(carpool, producer, OTHER_MODEL, "claude-haiku-4-5", OTHER_MODEL)
    carpool.submit()
    ids += [one for one in given_batches(carpool, producer, OTHER_MODEL) if one not in ids]

    assert [row["id"] for row in rows("batches")] == ids
    assert [row["id"] for row in rows("batches", "--limit", "2")] == ids[2:]
    assert [row["id"] for row in rows("batches", "--limit", "2", "--before", ids[2])] == ids[:2]
    assert [row["id"] for row in rows("batches", "--limit", "2", "--after", ids[0])] == ids[1:3]
    assert [row["id"] for row in rows("batches", "--since", "10m")] == ids
    assert rows("batches", "--since", "2100-01-01") == []
    assert [row["id"] for row in rows("batches", "--model", "claude-haiku-4-5")] == [ids[1]]
    assert [row["id"] for row in rows("batches", "--state", "sealed", "--state", "open")] == [ids[3]]
    assert f"carpool batches --before {ids[2]}" in succeeded("batches", "--limit", "2")


def test_a_batch_in_doubt_says_what_it_waits_for(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    given_batches(carpool, producer, OTHER_MODEL)
    simulator.arm(Fault(operation="create", kind="lost"))
    carpool.submit()

    [row] = rows("batches")

    assert row["state"] == "submitting"
    assert row["waiting_for"].startswith("Anthropic's list to show whether it was made, until ")
    assert (
        " UTC, then it is sent again (so late as the list has not shown any batch of ours yet"
        in row["waiting_for"]
    )


def test_a_paused_lane_and_a_full_queue_are_named(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARPOOL_QUEUE_LIMIT", "2")
    settings.settings.cache_clear()
    first, second, third = given_batches(
        carpool, producer, OTHER_MODEL, "claude-haiku-4-5", "claude-opus-4-5"
    )
    carpool.change(f"UPDATE batches SET state = 'in_progress' WHERE id = id_of('{first}')")
    simulator.arm(Fault(operation="create", kind="error", status=403))
    carpool.submit()

    waiting = {row["id"]: row["waiting_for"] for row in rows("batches")}

    assert waiting[second].startswith("its lane, paused: 403 permission_error: ")
    assert third in waiting


def test_the_table_fits_80_columns_and_shows_no_content(
    carpool: Carpool, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    [batch_id] = given_batches(carpool, producer, OTHER_MODEL)
    assert "a worker to post it" in succeeded("batches")
    carpool.change("UPDATE batches SET state = 'completed', finished_at = 5, last_error = 'it-is-long-'")
    carpool.change("UPDATE batches SET succeeded = 123456789, errored = 123456789, expired = 123456789")

    shown = succeeded("batches")

    assert batch_id in shown
    assert "SECRET" not in shown
    assert {len(line) for line in shown.splitlines()} == {80}
    assert shown.splitlines()[0].endswith("┓")


def test_show_tells_the_story_in_order_of_time(carpool: Carpool, producer: Producer) -> None:
    [batch_id] = given_batches(carpool, producer, OTHER_MODEL)
    carpool.submit()
    carpool.until(lambda: carpool.ended(2))
    [claude_id] = [row.claude_id for row in carpool.rows("SELECT claude_id FROM batches")]

    shown = succeeded("batches", "show", claude_id)

    steps = [
        "opened in lane",
        "sealed: 2 requests",
        "post 1 began",
        "taken by Anthropic as",
        "ended: 2 succeeded",
    ]
    assert [shown.index(step) for step in steps] == sorted(shown.index(step) for step in steps)
    assert "requests in it: 2 completed" in shown
    assert succeeded("batches", "show", claude_id[:-1]) == shown
    told = json.loads(succeeded("batches", "show", batch_id[:31], "--json"))
    assert told["request_states"] == {"completed": 2}
    assert [words for _, words in told["story"]][-1].startswith("completed: 2 succeeded")


def test_what_is_not_there_is_said(engine: sa.Engine) -> None:
    assert succeeded("batches") == "No batches found.\n"
    for arguments, code, reason in (
        (["show", "nobody"], 1, "there is no batch nobody"),
        (["--before", "0" * 32], 1, "there is no batch 000"),
        (["--state", "odd"], 2, "--state"),
    ):
        result = run("batches", *arguments)
        assert result.exit_code == code
        assert reason in result.output
