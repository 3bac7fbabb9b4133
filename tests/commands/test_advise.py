"""`carpool advise`: from requests that really ran to what would have cost less."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from tests.fixtures.agents import Carpool, request
from tests.fixtures.command_line import rows, run

from carpool import Producer
from carpool_worker.simulator import RemoteSimulator

pytestmark = pytest.mark.usefixtures("command_line")

MODEL = "claude-sonnet-4-5"
SECRET = "Wherefore art thou "


def wasteful(number: int) -> dict[str, Any]:
    return request(f"{SECRET}{number}?", MODEL) | {"max_tokens": 64_000, "system": SECRET * 400}


def test_waste_is_found_in_what_ran_and_nothing_that_was_said_is_shown(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given requests that share a long prompt, allow far more than is written, and have a cheaper neighbour
    producer.enqueue_many([wasteful(n) for n in range(120)])
    carpool.until(lambda: carpool.ended(120))

    listed, shown = run("advise", "--json"), run("advise")

    # Then each is said, the most expensive first, with a month's money at the rate seen
    advice = [json.loads(line) for line in listed.stdout.splitlines()]
    assert [one["kind"] for one in advice] == ["smaller_model", "cache", "max_tokens"]
    _, cache, max_tokens = advice
    savings = [Decimal(one["saves_per_month"]) for one in advice]
    assert savings[0] > savings[1] > savings[2] == 0
    assert {one["subject"] for one in advice} == {f"tests · {MODEL}"}
    assert (cache["facts"]["requests"], cache["facts"]["batches"]) == (120, 1)
    in_truth = len(SECRET) * 400 // 4  # as the simulator counts
    assert 0.95 * in_truth < cache["facts"]["prefix_tokens"] <= 1.05 * in_truth
    assert max_tokens["facts"]["max_tokens"] == 64_000

    # And the page fits a terminal and shows no content
    assert shown.exit_code == 0
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert f"${savings[0]:.2f} a month" in shown.stdout
    assert "Wherefore" not in listed.stdout + shown.stdout


def test_where_params_are_pruned_the_rest_is_still_advised(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    producer.enqueue_many([wasteful(n) for n in range(50)])
    carpool.until(lambda: carpool.ended(50))
    carpool.change("DELETE FROM params")

    assert [one["kind"] for one in rows("advise")] == ["smaller_model"]


def test_without_anything_used_nothing_is_advised(engine: sa.Engine) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(1)).date().isoformat()

    assert rows("advise") == []
    assert "No advice" in run("advise", "--since", tomorrow).stdout


def test_one_clients_advice_leaves_out_the_others(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    producer.enqueue_many([wasteful(n) for n in range(50)])
    carpool.until(lambda: carpool.ended(50))

    assert rows("advise", "--client", "another") == []
    assert len(rows("advise", "--client", "tests")) == 3
