"""`carpool clients`: what each has waiting and has used; and what the shell completes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from threading import Event
from time import monotonic

import pytest
from tests.fixtures.agents import MODEL, Carpool, request
from tests.fixtures.command_line import fits_80_columns, rows, run, succeeded
from tests.fixtures.queries import batch_ids

from carpool import Producer
from carpool_worker.commands import completion

pytestmark = pytest.mark.usefixtures("command_line")

SONNET = "claude-sonnet-4-5"


def given_two_clients(carpool: Carpool, producer: Producer, redis_url: str) -> None:
    """`tests` has two answers, and three requests that wait; `search` has one that waits for another try."""
    producer.enqueue_many([request("a"), request("b", SONNET)])
    carpool.until(lambda: carpool.ended(2))
    producer.enqueue_many([request("c")] * 3)
    with Producer(redis_url, client="search") as other:
        id_ = other.enqueue(request("d"))
    carpool.aggregate()
    carpool.change(f"UPDATE requests SET state = 'retryable', retry_at = 9 WHERE id = id_of('{id_}')")


def test_each_client_is_listed_with_what_waits_and_what_it_cost(
    carpool: Carpool, producer: Producer, redis_url: str
) -> None:
    given_two_clients(carpool, producer, redis_url)

    found = {row.pop("client"): row for row in rows("clients")}
    shown = succeeded("clients")

    assert list(found) == ["search", "tests"]
    nothing = {
        "held": 0,
        "answered": 0,
        "cost": None,
        "saved": None,
        "weight": 1.0,
        "turn": None,
        "share": None,
        "quota_requests": None,
        "quota_bytes": None,
    }
    assert found["search"] == {"waiting": 1, **nothing}
    assert (found["tests"]["waiting"], found["tests"]["answered"]) == (3, 2)
    assert found["tests"]["cost"] == found["tests"]["saved"]  # batches cost half
    assert fits_80_columns(shown)
    assert succeeded("clients", "--since", "2100-01-01").count("\n") == 3  # what waits is shown all the same


def test_show_tells_where_the_requests_of_one_wait(
    carpool: Carpool, producer: Producer, redis_url: str
) -> None:
    given_two_clients(carpool, producer, redis_url)

    mine, other = (json.loads(succeeded("clients", "show", name, "--json")) for name in ("tests", "search"))

    assert mine["waiting"] == {"sealed": 3}
    assert other["waiting"] == {"retryable": 1}
    assert {row["model"]: row["answered"] for row in mine["models"]} == {MODEL: 1, SONNET: 1}
    assert "waiting: 3 sealed\ndead letters: 0\n" in succeeded("clients", "show", "tests")
    result = run("clients", "show", "stranger")
    assert (result.exit_code, "there is no client 'stranger'" in result.output) == (1, True)


def test_the_shell_completes_what_is_in_the_tables_and_is_silent_without_them(
    carpool: Carpool, producer: Producer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_two_clients(carpool, producer, redis_url)
    [id_, *_] = [row.id for row in carpool.rows("SELECT id FROM requests ORDER BY id")]

    assert completion.complete_lane("claude-h") == [MODEL]
    assert sorted(completion.complete_batch("")) == sorted(batch_ids(carpool.engine))
    assert completion.complete_request(id_[:30]) == [id_]
    assert completion.complete_request("") == []
    assert completion.complete_client("t") == ["tests"]

    complete = os.environ | {
        "_CARPOOL_COMPLETE": "complete_bash",
        "COMP_WORDS": "carpool pause c",
        "COMP_CWORD": "2",
    }
    carpool_command = [sys.executable, "-c", "from carpool_worker.cli import app; app(prog_name='carpool')"]
    typed = subprocess.run(
        carpool_command, env=complete, capture_output=True, text=True, timeout=60, check=False
    )
    assert typed.stdout.split() == [MODEL, SONNET], typed.stderr

    with monkeypatch.context() as patched:
        patched.setattr("carpool_worker.database.engine", lambda: 1 / 0)
        assert completion.complete_lane("") == []

    # And a database that never answers holds nobody up who types
    with monkeypatch.context() as patched:
        patched.setattr(completion, "PATIENCE", 0.05)
        patched.setattr("carpool_worker.database.engine", lambda: Event().wait(60))
        began = monotonic()
        assert completion.complete_lane("") == []
        assert monotonic() - began < 30
