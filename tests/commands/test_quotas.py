"""What operators see of quotas: at the terminal and in the metrics."""

from __future__ import annotations

import json

import pytest
from tests.fixtures.agents import Carpool, request
from tests.fixtures.command_line import fits_80_columns, rows, succeeded
from tests.fixtures.metrics import scrape

from carpool import Producer, QueueFull
from carpool_worker import settings
from carpool_worker.pipeline.batching.recounter import recount

pytestmark = pytest.mark.usefixtures("command_line")


def test_the_terminal_and_the_metrics_show_what_of_a_quota_is_used(
    carpool: Carpool, producer: Producer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a client that was refused once
    quotas = {"tests": {"requests": 4, "bytes": 1_000_000}, "default": {"requests": 1_000}}
    monkeypatch.setenv("CARPOOL_QUOTAS", json.dumps(quotas))
    settings.settings.cache_clear()
    recount(carpool.engine, carpool.server, settings.settings().quotas)
    producer.enqueue_many([request()] * 4)
    with pytest.raises(QueueFull):
        producer.enqueue(request())
    with Producer(redis_url, client="search") as other:
        other.enqueue(request())
    carpool.aggregate()

    # Then
    [search, tests] = sorted(rows("clients"), key=lambda row: row["client"])
    assert (tests["waiting"], tests["quota_requests"], tests["quota_bytes"]) == (4, 4, 1_000_000)
    assert (search["quota_requests"], search["quota_bytes"]) == (1_000, None)
    assert fits_80_columns(succeeded("clients"))
    assert "quota: 4 of 4 requests, " in succeeded("clients", "show", "tests")

    shown = {one["client"]: one for one in json.loads(succeeded("status", "--json"))["quotas"]}
    assert (shown["tests"]["waiting_requests"], shown["tests"]["refused"]) == (4, 1)
    assert shown["search"]["waiting_requests"] == 1
    assert "tests: 4 of 4 requests" in succeeded("status")
    assert "search: " not in succeeded("status")

    seen = scrape(carpool)
    assert (
        seen.value("quota_requests", client="tests")
        == seen.value("quota_waiting_requests", client="tests")
        == 4
    )
    assert seen.value("quota_bytes", client="tests") == 1_000_000
    assert 0 < seen.value("quota_waiting_bytes", client="tests") < 1_000
    assert seen.value("quota_refusals_total", client="tests") == 1
