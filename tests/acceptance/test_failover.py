"""A whole Carpool behind Sentinels: its Redis dies, a replica takes over, and nothing accepted is lost."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from kombu.connection import Connection
from tests.acceptance.conftest import RunningCarpool
from tests.fixtures.agents import request
from tests.fixtures.sentinels import SERVICE, accepted_through_a_failover, watched

from carpool import Producer, Task

pytestmark = pytest.mark.timeout(300)

QUEUE = "billing"


def test_nothing_that_replicas_have_is_lost_when_the_primary_dies(
    running_carpool: RunningCarpool, tmp_path: Path
) -> None:
    with watched(tmp_path) as servers, running_carpool(CARPOOL_REDIS_URL=servers.url) as carpool:
        # Given requests all the time, when the primary dies, and comes back later, as a replica
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
