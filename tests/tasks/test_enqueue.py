"""The task `carpool.enqueue` and the events for Flower, on a real Valkey; Celery itself reads the events back."""

from __future__ import annotations

import inspect
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import celery
import msgspec
import pytest
import redis
import sqlalchemy as sa
from celery.exceptions import Reject
from tests.fixtures.agents import Carpool, request
from tests.fixtures.command_line import succeeded
from tests.fixtures.flower_events import listening
from tests.fixtures.inbox import waiting_in
from tests.fixtures.logs import logged
from tests.fixtures.queries import batch_ids

from carpool import request_id_of
from carpool.contract import Envelope, to_json
from carpool.exceptions import IdempotencyConflict, InvalidRequest, InvalidSetting, QueueFull
from carpool_worker import database
from carpool_worker.coordination import refused_messages
from carpool_worker.flower import events as flower_events
from carpool_worker.pipeline.batching.recounter import recount
from carpool_worker.pipeline.inbox import quarantine
from carpool_worker.policies.quotas import Quota
from carpool_worker.settings import read_settings
from carpool_worker.simulator import RemoteSimulator, Script
from carpool_worker.store.requests.answers import load_answers
from carpool_worker.tasks import enqueue

Events = Callable[[int], list[dict[str, Any]]]


@pytest.fixture
def app(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[celery.Celery]:
    app = celery.Celery("tests", broker=redis_url)
    monkeypatch.setattr(enqueue, "settings", lambda: read_settings(redis_url=redis_url))
    monkeypatch.setattr(enqueue, "app", app)
    yield app
    app.close()


@pytest.fixture
def events(app: celery.Celery) -> Iterator[Events]:
    """Waits until so many events came, and returns all."""
    with listening(app) as listener:

        def wait_for(count: int) -> list[dict[str, Any]]:
            for _ in range(100):
                if len(listener.heard) >= count:
                    break
                listener.wait(0.1)
            return listener.heard

        yield wait_for


def send(task_id: str, **kwargs: Any) -> None:
    """Run the task here as a worker would; errors are raised."""
    enqueue.enqueue.apply(kwargs=kwargs, task_id=task_id, throw=True)


def inbox(url: str) -> list[Envelope]:
    with redis.Redis.from_url(url) as server:
        return waiting_in(server)


def test_a_message_becomes_a_request(app: celery.Celery, redis_url: str) -> None:
    callback = {"kind": "webhook", "url": "https://billing.example.com/hook"}

    terms = {"metadata": {"n": 1}, "priority": -3, "max_wait": 60}
    send("t1", params=request(), callback=callback, client="billing", **terms)

    [envelope] = inbox(redis_url)
    assert (envelope.client, envelope.params) == ("billing", to_json(request()))
    assert json.loads(envelope.callback or b"") == callback
    assert envelope.metadata == b'{"n":1}'
    assert (envelope.priority, envelope.submit_by) == (-3, envelope.enqueued_at + 60_000)


def test_a_message_that_comes_twice_is_one_request(app: celery.Celery, redis_url: str) -> None:
    for task_id in ("t1", "t1", "t2"):
        send(task_id, params=request())

    first, again, other = inbox(redis_url)
    assert first.id == again.id != other.id


def test_a_key_of_the_service_counts_whatever_the_task(app: celery.Celery, redis_url: str) -> None:
    for task_id in ("t1", "t2"):
        send(task_id, params=request(), idempotency_key="invoice-1")

    assert len({envelope.id for envelope in inbox(redis_url)}) == 1


def test_a_key_that_was_used_with_other_params_is_refused_as_by_a_producer(
    refusing: sa.Engine, redis_url: str
) -> None:
    send("t1", params=request(), idempotency_key="invoice-1")
    with pytest.raises(IdempotencyConflict):
        send("t2", params=request("Another"), idempotency_key="invoice-1", client="default")

    assert [one.id for one in inbox(redis_url)] == [request_id_of("default", "invoice-1")]
    refused = request_id_of("default", "refused celery t2")
    with database.read(refusing) as connection:
        answer = load_answers(connection, [refused], "default")[refused]
    assert "'invoice-1' was used with other params" in msgspec.json.decode(answer.error)["message"]


@pytest.mark.parametrize(
    ("kwargs", "error", "rule"),
    [
        ({"params": request("SECRET") | {"stream": True}}, InvalidRequest, "stream"),
        ({"params": request("SECRET") | {"max_tokens": 0}}, InvalidRequest, "max_tokens"),
        ({"params": None}, InvalidRequest, "params"),
        ({"params": request("SECRET"), "callback": {"kind": "pigeon"}}, InvalidRequest, "callback"),
        ({"params": request("SECRET"), "client": "no spaces"}, InvalidSetting, "client"),
        ({"params": request("SECRET"), "client": 5}, InvalidSetting, "client"),
    ],
)
def test_bad_params_are_refused_with_the_rule_in_flower_and_without_the_prompt(
    refusing: sa.Engine,
    events: Events,
    redis_url: str,
    kwargs: dict[str, Any],
    error: type[Exception],
    rule: str,
) -> None:
    with pytest.raises(error, match=rule):
        send("t1", **kwargs)

    received, failed = events(2)
    assert [one["type"] for one in (received, failed)] == ["task-received", "task-failed"]
    assert rule in failed["exception"]
    assert failed["uuid"] == "t1"
    assert "SECRET" not in str((received, failed))
    assert inbox(redis_url) == []


def test_a_batch_is_shown_from_its_opening_to_its_end_and_its_contents_never(
    app: celery.Celery, events: Events, carpool: Carpool, producer: Any
) -> None:
    producer.enqueue_many([request(f"SECRET {n}") for n in range(3)], metadata="SECRET")
    steps: list[Callable[[], None]] = [
        carpool.aggregate,
        carpool.submit,
        lambda: carpool.until_polled("ended"),
        carpool.collect,
    ]
    for step in steps:
        step()
        flower_events.publish(app, carpool.engine, batch_ids(carpool.engine))

    shown = events(4)
    [row] = carpool.rows("SELECT * FROM batches")
    kinds = [one["type"] for one in shown]
    assert kinds == ["task-received", "task-started", "task-started", "task-succeeded"]
    assert {(one["uuid"], one["hostname"]) for one in shown} == {(row.id, flower_events.HOSTNAME)}
    assert shown[0]["name"] == f"batch {row.model}"
    assert shown[0]["args"].startswith("3 requests, ")
    assert shown[3]["result"].startswith("3 succeeded · ")
    assert "SECRET" not in str(shown)


def test_why_requests_failed_is_shown_in_flower_by_command_and_in_the_log_without_a_word_of_them(
    app: celery.Celery,
    events: Events,
    carpool: Carpool,
    producer: Any,
    simulator: RemoteSimulator,
    command_line: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Given a batch of which some requests fail with errors that quote them, and one expires
    caplog.set_level(logging.INFO)
    kinds = {"wrong": "invalid_request_error", "odd": "teapot_error"}
    simulator.script(
        *(
            Script(
                contains=word, outcome="errored", error_type=kind, message=f"text: 'SECRET {word}' is wrong"
            )
            for word, kind in kinds.items()
        ),
        Script(contains="late", outcome="expired"),
    )
    ids = {word: producer.enqueue(request(f"SECRET {word}")) for word in ("wrong", "odd", "late", "fine")}
    carpool.aggregate()
    carpool.change("UPDATE requests SET attempt = 3")  # the last one, so that none is tried again
    carpool.submit()
    carpool.until_polled("ended")
    carpool.collect()

    # When
    flower_events.publish(app, carpool.engine, batch_ids(carpool.engine))

    # Then
    [shown] = events(1)
    assert "failed: " in shown["result"]
    for kind in kinds.values():
        assert f"1 {kind}" in shown["result"]
    said = {
        word: succeeded("requests", "show", id_) + succeeded("requests", "show", id_, "--json")
        for word, id_ in ids.items()
    }
    for word, kind in kinds.items():
        assert kind in said[word]
    assert "expired" in said["late"]
    listed = succeeded("requests", "--state", "discarded")
    assert all(kind in listed for kind in kinds.values())
    assert kinds["odd"] in caplog.text
    assert "SECRET" not in str(shown) + str(said) + listed + caplog.text


def test_a_broker_that_is_away_stops_no_work(engine: sa.Engine, caplog: pytest.LogCaptureFixture) -> None:
    away = celery.Celery("away", broker="redis://127.0.0.1:9/0", broker_connection_timeout=0.1)
    away.conf.broker_transport_options = {"max_retries": 0}

    flower_events.publish(away, engine, ["b" * 32])
    away.close()

    assert logged(caplog) == [("events not sent to Flower", {"error": "OperationalError"})]


def test_a_client_over_its_quota_waits_in_the_queue_and_keeps_nobody_else_waiting(
    refusing: sa.Engine, redis_url: str, events: Events, carpool: Carpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    slept: list[float] = []
    monkeypatch.setattr(enqueue, "sleep", slept.append)
    monkeypatch.setattr(enqueue, "_over_quota", {})
    recount(carpool.engine, carpool.server, {"billing": Quota(requests=1, bytes=1_000)})
    send("one", params=request(), client="billing")

    # When
    for _ in range(2):
        with pytest.raises(Reject, match="quota") as rejected:
            enqueue.enqueue.run(request(), client="billing")
        assert rejected.value.requeue
    send("four", params=request(), client="other")

    # Then
    assert slept == [enqueue.OVER_QUOTA_SECONDS] * 2
    assert [one.client for one in inbox(redis_url)] == ["billing", "other"]

    # And what can never fit is refused for good
    enqueue._over_quota.clear()
    with pytest.raises(QueueFull):
        send("five", params=request("x" * 1_000), client="billing")
    assert "quota" in str(events(1))


@pytest.fixture
def refusing(app: celery.Celery, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> sa.Engine:
    """The door with a database, and followers that are noticed by nobody."""
    monkeypatch.setattr(enqueue, "engine", lambda: engine)
    monkeypatch.setattr("carpool_worker.tasks.followups.push_answers", lambda ids: None)
    monkeypatch.setattr("carpool_worker.tasks.followups.notify", lambda agent: None)
    return engine


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"params": request("SECRET") | {"max_tokens": 0}}, "max_tokens: must be"),
        ({"params": None}, "params: must be a dict"),
        ({"calback": None}, "calback: is no argument of carpool.enqueue: did you mean 'callback'"),
        ({"priority": 1_000}, "priority: must be"),
    ],
)
def test_a_refused_message_is_a_discarded_request_whose_callback_learns_why(
    refusing: sa.Engine, redis_url: str, wrong: dict[str, Any], rule: str
) -> None:
    # When a message is refused, and delivered once more
    callback = {"kind": "task", "name": "billing.on_answer", "queue": "billing"}
    message = {"params": request(), "callback": callback, "client": "billing", "metadata": {"a": 1}} | wrong
    for _ in range(2):
        with pytest.raises(InvalidRequest):
            send("t1", **message, idempotency_key="k")

    # Then there is one request, which has failed, and an answer for its callback
    request_id = request_id_of("billing", "refused celery t1")
    with database.read(refusing) as connection:
        answer = load_answers(connection, [request_id], "billing")[request_id]
        [delivery] = connection.execute(sa.text("SELECT target, pending FROM deliveries")).all()
    assert (answer.state, answer.outcome, bytes(answer.metadata)) == ("discarded", "errored", b'{"a":1}')
    assert msgspec.json.decode(answer.error)["type"] == "invalid_request_error"
    assert rule in msgspec.json.decode(answer.error)["message"]
    assert tuple(delivery) == ("billing.on_answer", 1)
    with redis.Redis.from_url(redis_url) as server:
        assert refused_messages.counted(server) == {"billing": 1}


def test_a_message_of_nobody_is_kept_in_the_quarantine(refusing: sa.Engine, redis_url: str) -> None:
    with pytest.raises(InvalidSetting):
        send("t1", params=request("SECRET"), client="no spaces")
    with redis.Redis.from_url(redis_url) as server:
        [entry] = quarantine.entries(server)
        assert refused_messages.counted(server) == {"other": 1}
    assert entry.reason.startswith("InvalidSetting: client: must be 1 to 64 letters")
    assert json.loads(entry.fields[b"celery"])["client"] == "no spaces"


def test_a_message_as_the_page_has_it_is_understood(app: celery.Celery, redis_url: str) -> None:
    # Given the page's message, pushed as a program in another language would
    page = (Path(__file__).parents[2] / "docs" / "celery.md").read_text()
    [message] = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    with redis.Redis.from_url(redis_url) as server:
        server.lpush("carpool.enqueue", message)

    # When Celery takes it, Then it is this task with these arguments
    with app.connection_for_read() as connection, connection.SimpleQueue("carpool.enqueue") as queue:
        taken = queue.get(timeout=10)
        taken.ack()
    args, kwargs, _ = taken.payload
    assert (taken.headers["task"], args) == ("carpool.enqueue", [])
    send(taken.headers["id"], **kwargs)
    [envelope] = inbox(redis_url)
    assert envelope.id == request_id_of("billing", f"celery {taken.headers['id']}")


def test_the_arguments_that_a_typo_may_mean_are_those_of_the_task() -> None:
    own = inspect.signature(enqueue.enqueue.run).parameters.keys()
    assert own - {"unknown"} == enqueue.ARGUMENTS
