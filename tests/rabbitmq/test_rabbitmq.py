"""RabbitMQ as `broker_url`: a whole Carpool works with it, and loses no task callback that it has confirmed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any
from uuid import uuid4

import celery
import msgspec
import pytest
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from tests.acceptance.conftest import RunningCarpool, until
from tests.fixtures.agents import request
from tests.fixtures.rabbitmq import RabbitServer

from carpool import Producer, Task
from carpool_worker.app import configuration
from carpool_worker.coordination.backlog import queues_of
from carpool_worker.pipeline.delivery.channels import Outgoing
from carpool_worker.pipeline.delivery.channels.celery_task import TaskChannel
from carpool_worker.policies.deliveries import Event
from carpool_worker.settings import read_settings

pytestmark = pytest.mark.timeout(300)

ANSWER = b'{"id":"1","cost":"0.1"}'


def outgoing(queue: str) -> Outgoing:
    callback = msgspec.json.encode({"kind": "task", "name": "billing.on_answer", "queue": queue}).decode()
    return Outgoing("a" * 32, "completed", "billing", callback, "2027-01-15T08:00:00.000Z", ANSWER)


def send(rabbit: RabbitServer, queue: str, count: int = 1, **settings: Any) -> list[Event]:
    app = celery.Celery("tests", set_as_current=False)
    found = read_settings(broker_url=rabbit.url, **settings)
    app.config_from_object(configuration(found))
    try:
        with TaskChannel(app, found) as channel:
            return [asyncio.run(channel.send(outgoing(queue))).event for _ in range(count)]
    finally:
        app.close()


def taken(rabbit: RabbitServer, queue: str, count: int) -> list[dict[str, Any]]:
    with Connection(rabbit.url) as connection, connection.SimpleQueue(queue) as found:
        messages = [found.get(timeout=60) for _ in range(count)]
        for one in messages:
            one.ack()
    return [one.payload[0][0] for one in messages]


def test_a_whole_carpool_works_with_it_also_after_it_was_killed(
    running_carpool: RunningCarpool, rabbit: RabbitServer
) -> None:
    queue = f"billing-{uuid4().hex}"
    with (
        running_carpool(CARPOOL_BROKER_URL=rabbit.url) as carpool,
        Producer(carpool.redis_url) as producer,
        celery.Celery("sender", broker=rabbit.url, set_as_current=False) as sender,
    ):
        # Given answers by task that nobody has taken yet, and a request that came by Celery
        task = Task("billing.on_answer", queue=queue)
        first = producer.enqueue_many([request(str(n)) for n in range(20)], callback=task)
        sender.send_task("carpool.enqueue", args=[request("x")], queue="carpool.enqueue")
        assert {one.outcome for one in producer.as_completed(first, timeout=120)} == {"succeeded"}
        until(lambda: queues_of(rabbit.url).unread(queue) == 20)

        # When the broker is killed and comes back
        rabbit.kill()
        late = producer.enqueue_many([request(f"late {n}") for n in range(20)], callback=task)
        rabbit.start()

        # Then all go on, and every answer is there
        assert len(list(producer.as_completed(late, timeout=150))) == 20
        answers = {one["id"] for one in taken(rabbit, queue, 40)}
        assert answers >= {*first, *late}


def test_a_message_whose_receiver_dies_comes_again(rabbit: RabbitServer) -> None:
    # Given a receiver that takes a message, and dies before it has done its work
    queue = f"billing-{uuid4().hex}"
    assert send(rabbit, queue) == [Event.ACCEPTED]
    program = """
import os, sys
from kombu import Connection
queue = Connection(sys.argv[1]).SimpleQueue(sys.argv[2])
queue.get(timeout=30)
os._exit(1)
"""
    killed = subprocess.run([sys.executable, "-c", program, rabbit.url, queue], timeout=60, check=False)
    assert killed.returncode == 1

    # Then the next one gets it, also if the broker dies too
    rabbit.kill()
    rabbit.start()
    assert [one["id"] for one in taken(rabbit, queue, 1)] == ["1"]


def test_a_full_queue_gets_no_more_and_an_absent_broker_nothing(rabbit: RabbitServer) -> None:
    queue = f"billing-{uuid4().hex}"
    queues = queues_of(rabbit.url)
    assert queues.unread(queue) == 0
    assert send(rabbit, queue, 5, task_queue_limit=3) == [*[Event.ACCEPTED] * 3, *[Event.FULL] * 2]
    assert queues.unread(queue) == 3
    rabbit.kill()
    try:
        assert send(rabbit, queue) == [Event.FAILED]
    finally:
        rabbit.start()
    with pytest.raises(OperationalError):
        queues.unread(queue)  # over the connection that broke
    assert queues.unread(queue) == 3
    assert len(taken(rabbit, queue, 3)) == 3
