"""Budgets of keys that are used up: warned of once for each share and period, in the log and by a signed webhook."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from standardwebhooks import Webhook
from tests.fixtures.deliveries import WEBHOOK_SECRET, webhook_settings
from tests.fixtures.logs import logged
from tests.fixtures.receiver import Receiver
from tests.fixtures.waiting import until

from carpool_worker.database import now, read, write
from carpool_worker.metrics.budgets import of_key_budgets
from carpool_worker.operations import keys
from carpool_worker.pipeline.delivery.budget_warnings import warn
from carpool_worker.policies.budget_warnings import used_up
from carpool_worker.policies.budgets import Budget, BudgetBalance
from carpool_worker.store import gateway_keys, usage
from carpool_worker.store.requests import reservations
from carpool_worker.store.usage import UsageRow
from carpool_worker.units import DOLLAR

TODAY = datetime.now(UTC).date().isoformat()


def given_spent(engine: sa.Engine, dollars: str, key: str = "nightly") -> None:
    cost = int(Decimal(dollars) * DOLLAR)
    row = UsageRow(TODAY, "billing", "claude-haiku-4-5", requests=1, cost=cost, gateway_key=key)
    with write(engine) as connection:
        usage.add(connection, [row])


def given_key(engine: sa.Engine, **terms: Any) -> None:
    keys.create(engine, {"client": "billing", "name": "nightly", "day": 1} | terms, actor="tests")


@pytest.mark.parametrize(
    ("spent", "percents"),
    [("0.49", []), ("0.5", [50]), ("0.8", [50, 80]), ("0.97", [50, 80]), ("0.98", [50, 80, 100])],
)
def test_shares_are_of_what_is_spent_and_reserved(spent: str, percents: list[int]) -> None:
    budget = Budget(day=Decimal(1), month=Decimal(100))
    half = int(Decimal(spent) * DOLLAR) // 2
    balance = BudgetBalance(budget, {"day": half, "month": half}, reserved=half)

    found = list(used_up("nightly", balance, now()))

    assert [(share.period, share.percent) for share in found] == [(TODAY, percent) for percent in percents]


def test_each_share_is_warned_of_once_in_the_log_and_by_a_webhook(
    engine: sa.Engine, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    settings = webhook_settings(budget_webhook=receiver.url("/budgets"))
    given_key(engine, month=100)

    # When it is used by half, and looked at twice; and later by more
    made = []
    for dollars in ("0.5", "0", "0.35", "0.2"):
        given_spent(engine, dollars)
        given_spent(engine, "50", key="another")
        made.append(warn(engine, settings))

    # Then each share has one warning
    assert made == [1, 0, 1, 1]
    bodies = [json.loads(body) for _, body in receiver.posts["/budgets"]]
    assert [body["data"]["percent"] for body in bodies] == [50, 80, 100]
    assert bodies[0]["type"] == "budget.warned"
    assert bodies[0]["data"] == {
        "key": "nightly",
        "period": "day",
        "day": TODAY,
        "percent": 50,
        "budget": "1",
        "used": "0.5",
    }
    assert len({headers["webhook-id"] for headers, _ in receiver.posts["/budgets"]}) == 3
    for headers, body in receiver.posts["/budgets"]:
        Webhook(WEBHOOK_SECRET).verify(body, dict(headers))
    warned = [fields["percent"] for event, fields in logged(caplog) if event == "budget used"]
    assert warned == [50, 80, 100]


def test_a_webhook_that_is_not_taken_is_tried_again_under_the_same_id(
    engine: sa.Engine, receiver: Receiver
) -> None:
    receiver.answer("/budgets", 500)
    settings = webhook_settings(budget_webhook=receiver.url("/budgets"), webhook_schedule="0.001")
    given_key(engine)
    given_spent(engine, "0.5")

    assert warn(engine, settings) == 1
    del receiver.answers["/budgets"]
    until(lambda: len(receiver.posts["/budgets"]) == 2, step=lambda: warn(engine, settings))
    assert warn(engine, settings) == 0

    first, second = receiver.posts["/budgets"]
    assert first[0]["webhook-id"] == second[0]["webhook-id"]
    with read(engine) as connection:
        [row] = connection.execute(sa.text("SELECT attempts, due_at FROM budget_warnings"))
    assert tuple(row) == (2, None)


def test_without_a_webhook_the_warning_is_made_all_the_same(engine: sa.Engine) -> None:
    given_key(engine)
    given_spent(engine, "2")

    assert warn(engine, webhook_settings()) == 3
    assert warn(engine, webhook_settings()) == 0


def test_the_metrics_show_what_is_left(engine: sa.Engine) -> None:
    given_key(engine, month=100)
    given_spent(engine, "0.25")

    with read(engine) as connection:
        balances = reservations.key_balances(connection, gateway_keys.all_with_budgets(connection), now())
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for metric in of_key_budgets(balances)
        for sample in metric.samples
    }
    assert found == {
        ("carpool_key_budget_dollars", "nightly", "day"): 1.0,
        ("carpool_key_budget_dollars", "nightly", "month"): 100.0,
        ("carpool_key_budget_spent_dollars", "nightly", "day"): 0.25,
        ("carpool_key_budget_spent_dollars", "nightly", "month"): 0.25,
        ("carpool_key_budget_reserved_dollars", "nightly"): 0.0,
    }
