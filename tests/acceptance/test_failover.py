"""A whole Carpool behind Sentinels: its Redis dies, a replica takes over, and nothing accepted is lost."""

from __future__ import annotations

import itertools
import json
from contextlib import suppress
from pathlib import Path

import pytest
from kombu.connection import Connection
from tests.acceptance.conftest import Carpool, RunningCarpool, until
from tests.acceptance.test_flower import ask
from tests.fixtures.agents import request
from tests.fixtures.sentinels import SERVICE, accepted_through_a_failover, watched

from carpool import Producer, Task

pytestmark = pytest.mark.timeout(300)

QUEUE = "billing"


def rows_of_flower(carpool: Carpool) -> int:
    """Return how many batches have ended well on Flower's page of tasks, as its own script asks for them."""
    with suppress(OSError):  # it is starting
        asked = "draw=1&start=0&length=200&order[0][column]=0&order[0][dir]=asc&columns[0][data]=name"
        status, text = ask(carpool, f"/tasks/datatable?{asked}")
        rows = json.loads(text)["data"] if status == 200 else []
        return sum(row["name"].startswith("batch ") and row["state"] == "SUCCESS" for row in rows)
    return 0


def test_nothing_that_replicas_have_is_lost_when_the_primary_dies(
    running_carpool: RunningCarpool, tmp_path: Path
) -> None:
    with watched(tmp_path) as servers, running_carpool(CARPOOL_REDIS_URL=servers.url) as carpool:
        # Given Flower with a batch on its page
        with Producer(servers.url) as producer:
            assert producer.wait(producer.enqueue(request("first")), timeout=120).outcome == "succeeded"
        shown = until(lambda: rows_of_flower(carpool), 60)

        # And requests all the time, when the primary dies, and comes back later, as a replica
        numbers = itertools.count()
        with Producer(servers.url, durable_replicas=1) as producer:
            accepted = accepted_through_a_failover(
                servers, lambda: producer.enqueue(request(str(next(numbers)))), within=90
            )

        # Then all are answered, by the same processes, and so is what comes now, by task as well
        with Producer(carpool.redis_url) as producer:
            task = producer.enqueue(request("by task"), callback=Task("billing.on_answer", queue=QUEUE))
            results = list(producer.as_completed([*accepted, task], timeout=150))
        assert {one.outcome for one in results} == {"succeeded"}
        assert len(results) == len(accepted) + 1
        broker = f"sentinel://127.0.0.1:{servers.sentinels[0]}"
        with (
            Connection(broker, transport_options={"master_name": SERVICE}) as connection,
            connection.SimpleQueue(QUEUE) as queue,
        ):
            message = queue.get(timeout=60)
            message.ack()
        assert message.payload[0][0]["id"] == task

        # And Flower has found the one that took over: it shows what has ended since
        until(lambda: rows_of_flower(carpool) > shown, 60)
