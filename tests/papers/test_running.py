"""Every block of the papers that says `run` is run, in the order of its page, beside a real `carpool up`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.conftest import RunningCarpool
from tests.papers.fences import PAPERS, Fence, fences
from tests.papers.reader import Reader

from carpool import Producer
from carpool_worker.simulator import RemoteSimulator
from carpool_worker.simulator.scripts import Script

NEWCOMERS = ("README.md", "docs/quickstart.md")
"""The pages that start a `carpool up` of their own, and stop it at their end."""

CLIENTS = ("docs/clients.md",)
"""The pages whose readers have the gateway in Anthropic's place."""

PARAMS: dict[str, Any] = {
    "model": "claude-haiku-4-5",
    "max_tokens": 16,
    "messages": [{"role": "user", "content": "Is this review positive, negative or neutral? I love it."}],
}

INVALID = Script(model="claude-opus-4-5", outcome="errored", error_type="invalid_request_error", times=1)

pytestmark = pytest.mark.timeout(600)


def to_run(paper: str) -> list[Fence]:
    return [fence for fence in fences(paper) if (fence.how or "").startswith("run")]


def test_a_newcomer_who_follows_a_page_from_its_first_line_gets_everywhere(tmp_path: Path) -> None:
    for number, paper in enumerate(NEWCOMERS):
        followed = to_run(paper)
        assert followed
        with Reader(tmp_path / str(number)) as reader:
            for fence in followed:
                reader.follow(fence)


def test_every_other_page_can_be_followed_beside_a_running_carpool(
    running_carpool: RunningCarpool, tmp_path: Path
) -> None:
    with running_carpool() as carpool, Producer(carpool.redis_url, client="billing") as producer:
        # Given a request that Anthropic found invalid, and one that succeeded: the pages' $REQUEST and $BATCH
        RemoteSimulator(carpool.simulator_url).script(INVALID)
        producer.wait(producer.enqueue(PARAMS | {"model": "claude-opus-4-5"}), timeout=60)
        request_id = producer.enqueue(PARAMS)
        result = producer.wait(request_id, timeout=60)
        variables = {
            "REQUEST": request_id,
            "BATCH": str(result.batch_id),
            "CARPOOL_REDIS_URL": carpool.redis_url,
            "CARPOOL_DATABASE_URL": carpool.database_url,
            "CARPOOL_WEBHOOK_SECRET": carpool.webhook_secret,
            "CARPOOL_FLOWER_URL": carpool.flower_url,
            "CARPOOL_METRICS_URL": carpool.metrics_url,
            "CARPOOL_SIMULATOR_URL": carpool.simulator_url,
            "ANTHROPIC_BASE_URL": carpool.simulator_url,
            "ANTHROPIC_API_KEY": "simulated",
        }

        through_the_gateway = {
            "ANTHROPIC_BASE_URL": carpool.gateway_url,
            "ANTHROPIC_API_KEY": carpool.gateway_secret,
        }

        # Then each of their blocks does what it says
        for paper in PAPERS:
            if paper not in NEWCOMERS and (followed := to_run(paper)):
                told = variables | (through_the_gateway if paper in CLIENTS else {})
                with Reader(tmp_path / paper.replace("/", "-"), told) as reader:
                    for fence in followed:
                        reader.follow(fence)
