"""Workers of one host that serve different agents have different names."""

from __future__ import annotations

from socket import gethostname

from carpool_worker.coordination.keys import QUEUES
from carpool_worker.processes.worker import node_name


def test_a_worker_is_named_after_the_agents_that_it_serves() -> None:
    names = [
        node_name(queues) for queues in (QUEUES, ["carpool.deliver"], ["carpool.poll", "carpool.collect"])
    ]

    assert names == [f"{name}@{gethostname()}" for name in ("celery", "deliver", "poll-collect")]
