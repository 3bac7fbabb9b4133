"""`carpool metrics`: what it counts is what is in the tables and Redis, and the alerts and the dashboard name it."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.conftest import free_port
from tests.fixtures.agents import MODEL, Carpool, request
from tests.fixtures.deliveries import claim_all, outcome_of
from tests.fixtures.metrics import get, parsed, scrape, scraping

from carpool import Producer, Task, Webhook
from carpool_worker.coordination import heartbeat, refused_messages
from carpool_worker.database import now, write
from carpool_worker.metrics.readings import connect_briefly
from carpool_worker.policies.limits import Limits
from carpool_worker.settings import read_settings
from carpool_worker.simulator import Fault, RemoteSimulator
from carpool_worker.store.deliveries import rows as deliveries
from carpool_worker.store.deliveries.outcomes import DeliveryOutcome, SendAttempt

CONFIG = Path(__file__).parents[2] / "config"
RULES = CONFIG / "prometheus" / "carpool.rules.yml"
DASHBOARD = CONFIG / "grafana" / "carpool.json"
MODELS = ("claude-haiku-4-5", "claude-sonnet-4-5", "claude-opus-4-5")
CALLBACK = Webhook("https://billing.example.com/claude?invoice=42")


def test_it_counts_what_is_where(carpool: Carpool, producer: Producer) -> None:
    # Given a batch that came back, one at Anthropic, an open one, and requests in the inbox
    producer.enqueue_many([request("a"), request("b")], callback=CALLBACK)
    carpool.until(lambda: carpool.ended(2))
    producer.enqueue_many([request("c")] * 3)
    carpool.aggregate()
    carpool.submit()
    carpool.limits = Limits(count=100, body_bytes=250_000_000, seconds=3_600.0)
    producer.enqueue(request("d"))
    carpool.aggregate()
    producer.enqueue_many([request("SECRET")] * 5)
    heartbeat.record(carpool.server)

    # When
    with scraping(carpool) as text:
        shown = text()
    seen = parsed(shown)

    # Then
    assert seen.value("up", server="redis") == seen.value("up", server="database") == 1
    assert seen.value("inbox_requests") == 5
    assert 0 <= seen.value("inbox_oldest_seconds") < 60
    assert 0 <= seen.value("beat_silent_seconds") < 60
    assert seen.value("batches", state="open", model=MODEL) == 1
    assert seen.value("batches_requests", state="in_progress", model=MODEL) == 3
    assert seen.value("batches_finished_total", state="completed", model=MODEL) == 1
    assert seen.value("submissions_total", model=MODEL) == 2
    assert seen.value("results_total", outcome="succeeded", model=MODEL) == 2
    assert seen.value("results_total", outcome="errored", model=MODEL) == 0
    assert seen.value("queued_requests", account="default") == 3
    assert seen.value("queue_limit", account="default") == 200_000
    assert {row["state"] for row in seen.named("requests")} == {"batched"}  # results_total has the others
    assert seen.value("requests", state="batched", attempt="1") == 4
    assert 0 <= seen.value("requests_oldest_seconds", state="batched") < 60
    assert seen.value("deliveries", channel="webhook", state="available") == 2
    assert seen.value("deliveries_pending", state="due") == 2
    assert seen.value("batch_state_seconds_count", state="in_progress") == 1
    assert seen.value("batch_state_seconds_bucket", state="in_progress", le="86400.0") == 1
    assert "SECRET" not in shown
    assert "invoice" not in shown


def test_the_money_is_the_ledgers(carpool: Carpool, producer: Producer) -> None:
    # Given two answers, and one in the ledger of a model that nobody knows a price of
    producer.enqueue_many([request("a"), request("b")])
    carpool.until(lambda: carpool.ended(2))
    put_into_ledger(carpool, "('2026-01-01', 'tests', 'claude-unknown-9', 1, 10, 0, 0, 0, 1, 0, 0)")

    # When
    seen = scrape(carpool)

    # Then
    [(tokens, paid)] = carpool.rows("SELECT sum(output_tokens), sum(cost) FROM requests")
    priced = {"client": "tests", "model": MODEL}
    assert seen.value("tokens_total", **priced, kind="output") == tokens
    assert seen.value("cost_dollars_total", **priced) == pytest.approx(float(paid) / 1e12)
    assert seen.value("saved_dollars_total", **priced) == pytest.approx(float(paid) / 1e12)

    # And what has no known price is counted, and does not cost zero
    assert seen.value("usage_unpriced_requests_total", client="tests", model="claude-unknown-9") == 1
    assert {row["model"] for row in seen.named("cost_dollars_total")} == {MODEL}


def test_refusals_pauses_and_doubts_are_told_apart(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given three lanes: one whose batch is refused for now, one that pauses, one whose answer is lost
    for model in MODELS:
        producer.enqueue(request("a", model))
        carpool.aggregate()
    simulator.arm(
        Fault(operation="create", kind="error", status=529),
        Fault(operation="create", kind="error", status=402),
        Fault(operation="create", kind="lost"),
    )
    carpool.submit()

    # When
    seen = scrape(carpool)

    # Then
    refused = {(row["model"], row["status"]) for row in seen.named("refusals_total")}
    haiku, sonnet, opus = MODELS
    assert refused == {(haiku, "529"), (sonnet, "402"), (opus, "none")}
    assert seen.value("refusals_total", model=haiku, status="529") == 1
    assert seen.value("batches_in_doubt") == 1
    assert seen.value("batches_lost") == 0
    assert [row["by"] for row in seen.named("lane_paused")] == ["carpool"]

    # And once the doubt has lasted too long, the batch is lost
    carpool.change("UPDATE batches SET in_doubt_at = 5 WHERE in_doubt_at IS NOT NULL")
    assert scrape(carpool).value("batches_lost") == 1


def test_messages_that_celerys_door_refused_are_counted_by_client_and_of_many_clients_together(
    carpool: Carpool,
) -> None:
    for number in range(refused_messages.MOST_CLIENTS + 1):
        refused_messages.count(carpool.server, f"client-{number}")
    refused_messages.count(carpool.server, "client-7")
    refused_messages.count(carpool.server)

    with scraping(carpool) as text:
        seen = parsed(text())

    assert seen.value("celery_refusals_total", client="client-7") == 2
    assert seen.value("celery_refusals_total", client="other") == 2


def test_tries_are_counted_by_host_and_outcome_and_never_by_url(carpool: Carpool, producer: Producer) -> None:
    # Given answers for a task and for 30 hosts, one of which is tried twice
    hosts = [Webhook(f"https://h{number:02}.example.com/{number}") for number in range(30)]
    callbacks: list[Webhook | Task] = [*hosts, hosts[29], Task("billing.on_answer")]
    for callback in callbacks:
        producer.enqueue(request("a"), callback=callback)
    carpool.until(lambda: carpool.ended(32))
    try_each(
        carpool,
        status=lambda target: None if target == "billing.on_answer" else 200 + 300 * ("/29" in target),
    )

    # When
    seen = scrape(carpool)

    # Then the busiest are named, and all are counted
    tries = {(row["host"], row["outcome"]) for row in seen.named("delivery_tries_lately")}
    assert seen.value("delivery_tries_lately", host="h29.example.com", outcome="500") == 2
    assert len({host for host, _ in tries}) == 21
    assert sum(value for (name, _), value in seen.items() if name == "carpool_delivery_tries_lately") == 32
    assert {row["state"] for row in seen.named("deliveries")} == {"discarded"}  # not the delivered one
    assert seen.value("deliveries_given_up_lately") == 2


def try_each(carpool: Carpool, status: Callable[[str], int | None]) -> None:
    at = now()
    with write(carpool.engine) as connection:
        outcomes = []
        for claimed in claim_all(connection, at):
            answer = status(claimed.target)
            attempt = SendAttempt(at, status=answer)
            given_up = functools.partial(DeliveryOutcome.given_up, attempt=attempt, error=None)
            delivered = functools.partial(DeliveryOutcome.delivered, attempt=attempt)
            became = given_up if (answer or 0) >= 300 else delivered
            outcomes.append(outcome_of(connection, claimed, became))
        deliveries.record(connection, outcomes, at)


def test_more_clients_than_prometheus_should_know_are_summed(carpool: Carpool) -> None:
    rows = ", ".join(f"('2026-01-01', 'c{n}', '{MODEL}', 1, 10, 0, 0, 0, 0, 5, 10)" for n in range(201))
    put_into_ledger(carpool, rows)
    seen = scrape(carpool)
    assert seen.named("usage_requests_total") == [{"client": "other", "model": MODEL}]
    assert seen.value("tokens_total", client="other", model=MODEL, kind="input") == 2_010


def put_into_ledger(carpool: Carpool, rows: str) -> None:
    """Append usage as collectors do, of the default account and in batches."""
    columns = (
        "day, client, model, requests, input_tokens, output_tokens, cache_write_tokens, cache_read_tokens, "
        "unpriced, cost, list_price, account, gateway_key, processing"
    )
    given = f"SELECT *, '', '', 'batch' FROM (VALUES {rows}) AS given"
    carpool.change(f"INSERT INTO usage_entries ({columns}) {given}")


def test_without_redis_the_tables_still_tell_their_part(carpool: Carpool, producer: Producer) -> None:
    producer.enqueue(request("a"))
    carpool.aggregate()
    settings = read_settings(redis_url=f"redis://127.0.0.1:{free_port()}")
    with connect_briefly(settings) as nowhere, scraping(carpool, nowhere) as text:
        seen = parsed(text())

    assert (seen.value("up", server="redis"), seen.value("up", server="database")) == (0, 1)
    assert seen.value("batches", state="sealed", model=MODEL) == 1
    assert not seen.named("inbox_requests")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_without_its_database_redis_still_tells_its_part(carpool: Carpool) -> None:
    carpool.change("ALTER TABLE batches RENAME TO elsewhere")
    seen = scrape(carpool)
    assert (seen.value("up", server="redis"), seen.value("up", server="database")) == (1, 0)
    assert seen.value("inbox_requests") == 0


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_alerts_and_dashboard_name_what_is_exposed(carpool: Carpool) -> None:
    # Given all names that are exposed, even where they have no value yet
    with scraping(carpool) as text:
        kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text(), flags=re.M))
    parts = ("", "_bucket", "_sum", "_count")
    exposed = {
        name + part for name, kind in kinds.items() for part in (parts if kind == "histogram" else parts[:1])
    }

    # When the expressions are read
    dashboard = json.loads(DASHBOARD.read_text())
    rules = yaml.safe_load(RULES.read_text())["groups"]
    expressions = [*targets(dashboard), *(rule["expr"] for group in rules for rule in group["rules"])]

    # Then they name nothing else, and each panel has one
    named = [set(re.findall(r"\bcarpool_\w+", expression)) for expression in expressions]
    assert len(expressions) > 40
    assert all(named)
    assert set.union(*named) <= exposed


def targets(dashboard: dict[str, Any]) -> list[str]:
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert all(panel["targets"] for panel in panels)
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_each_alert_has_a_test_and_an_action() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    tests = yaml.safe_load(RULES.with_name("carpool.tests.yml").read_text())["tests"]
    tested = {case["alertname"] for test in tests for case in test.get("alert_rule_test", [])}
    assert {rule["alert"] for rule in rules} == tested
    assert all({"summary", "action"} == set(rule["annotations"]) for rule in rules)


def test_the_alerts_fire_when_they_should_and_the_dashboards_queries_are_promql(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:  # not everybody has it: what their expressions name is checked above
        return
    panels = json.loads(DASHBOARD.read_text().replace("$__rate_interval", "1m"))
    recorded = [{"record": f"panel_{n}", "expr": query} for n, query in enumerate(targets(panels))]
    queries = tmp_path / "queries.json"  # JSON is YAML
    queries.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": recorded}]}))

    for arguments in (
        ["test", "rules", str(RULES.with_name("carpool.tests.yml"))],
        ["check", "rules", str(queries)],
    ):
        checked = subprocess.run([promtool, *arguments], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr + checked.stdout


@pytest.mark.usefixtures("carpool")
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_command_says_where_it_serves_and_ends_with_ctrl_c(redis_url: str, database_url: str) -> None:
    # When the command runs
    environment = os.environ | {"CARPOOL_REDIS_URL": redis_url, "CARPOOL_DATABASE_URL": database_url}
    command = [sys.executable, "-m", "carpool_worker.cli", "metrics", "--port", "0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as it:
        assert it.stdout
        url = it.stdout.readline().decode().split()[-1]

        # Then Prometheus can scrape what it names
        assert parsed(get(url)).value("up", server="database") == 1

        # And Ctrl-C ends it
        it.send_signal(signal.SIGINT)
        assert it.communicate(timeout=30) == (b"", b"")
        assert it.returncode == 0
