"""Callbacks as Celery tasks through a real Valkey: a real worker gets the answer."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import celery
import msgspec
import pytest

from carpool_worker.channels import Event, Outgoing, Sent
from carpool_worker.channels.celery_task import TaskChannel, permitted
from carpool_worker.settings import read_settings


def outgoing(name: str, queue: str = "billing") -> Outgoing:
    callback = msgspec.json.encode({"kind": "task", "name": name, "queue": queue}).decode()
    return Outgoing(
        "a" * 32, "completed", name, callback, "2027-01-15T08:00:00.000Z", b'{"id":"1","cost":"0.1"}'
    )


def send(app: celery.Celery, parcel: Outgoing, **settings: Any) -> Sent:
    with TaskChannel(app, read_settings(**settings)) as channel:
        return asyncio.run(channel.send(parcel))


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
    app.close()


def test_what_flower_is_told_of_the_task_holds_no_answer(redis_url: str) -> None:
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


@pytest.mark.parametrize("name", ["carpool.submit", "shipping.on_answer"])
def test_tasks_that_are_not_allowed_are_not_sent(redis_url: str, name: str) -> None:
    app = celery.Celery(broker=redis_url)
    sent = send(app, outgoing(name), task_allowed=["billing.*", "carpool.*"])
    assert sent.event is Event.REFUSED
    app.close()


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
