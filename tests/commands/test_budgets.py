"""What operators see of budgets: at the terminal and in the metrics."""

from __future__ import annotations

import json

import pytest
from tests.fixtures.agents import Carpool
from tests.fixtures.budgets import EACH, given_enqueued, held
from tests.fixtures.command_line import fits_80_columns, rows, succeeded
from tests.fixtures.metrics import scrape

from carpool import Producer
from carpool_worker import settings

pytestmark = pytest.mark.usefixtures("command_line")


@pytest.fixture(autouse=True)
def budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget for one of these tests' requests a day, in the environment."""
    monkeypatch.setenv("CARPOOL_BUDGETS", json.dumps({"tests": {"day": str(EACH + EACH / 2), "month": 100}}))
    settings.settings.cache_clear()


def given_one_that_goes_and_two_held(carpool: Carpool, producer: Producer) -> None:
    carpool.budgets = settings.settings().budgets
    given_enqueued(carpool, producer, 3)


def test_the_terminal_tells_who_waits_for_money_and_why(carpool: Carpool, producer: Producer) -> None:
    given_one_that_goes_and_two_held(carpool, producer)
    first, _ = held(carpool)

    told = succeeded("requests", "show", first)
    assert "waiting for: its client's budget: $0.0003 a day, $0.0002 spent or reserved" in told
    assert "free again at 00:00 UTC" in told
    assert "put aside: its budget had no room for it" in told

    [client] = rows("clients")
    assert (client["waiting"], client["held"]) == (3, 2)
    assert fits_80_columns(succeeded("clients"))

    shown = json.loads(succeeded("clients", "show", "tests", "--json"))
    assert shown["waiting"] == {"sealed": 1, "held": 2}
    assert (shown["budget"]["month"], shown["budget"]["over"]) == ({"limit": "100", "spent": "0"}, "wait")
    assert "budget: $0.0003 a day ($0.00 spent), $100.00 a month" in succeeded("clients", "show", "tests")

    screen = succeeded("status")
    assert "2 requests of 1 client held, as over budget" in screen
    assert "Retries" not in screen
    assert fits_80_columns(screen)
    assert {
        row["id"]: row["retry_at"] for row in rows("requests", "--state", "retryable", "--since", "1h")
    } == dict.fromkeys(held(carpool))


def test_the_metrics_tell_limits_what_is_taken_of_them_and_what_waits_and_no_alarm_is_raised_for_it(
    carpool: Carpool, producer: Producer
) -> None:
    given_one_that_goes_and_two_held(carpool, producer)
    carpool.change(
        "UPDATE requests SET client = 'stranger' WHERE id = (SELECT id FROM requests ORDER BY id DESC LIMIT 1)"
    )

    seen = scrape(carpool)

    assert seen.value("budget_dollars", client="tests", period="month") == 100
    assert seen.value("budget_spent_dollars", client="tests", period="day") == 0
    assert seen.value("budget_reserved_dollars", client="tests") == pytest.approx(float(EACH), rel=0.1)
    assert {row["client"]: seen.value("requests_held", **row) for row in seen.named("requests_held")} == {
        "tests": 1,
        "other": 1,
    }
    assert seen.value("requests", state="retryable", attempt="0") == 2
    assert [row["state"] for row in seen.named("requests_oldest_seconds")] == ["batched"]
