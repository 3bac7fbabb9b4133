"""Copies of deliveries for a developer: each once, signed, from the moment of listening on."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from tests.fixtures.agents import Carpool, request
from tests.fixtures.command_line import run
from tests.fixtures.deliveries import WEBHOOK_SECRET

from carpool import Producer, Task, Webhook
from carpool.webhooks import verify
from carpool_worker.operations import copies
from carpool_worker.store.webhook_secrets import ClientSecrets

WITH_SECRET = {"CARPOOL_WEBHOOK_SECRET": WEBHOOK_SECRET}


def test_each_delivery_that_is_made_meanwhile_is_copied_once(
    carpool: Carpool, producer: Producer, engine: sa.Engine, receiver: Any
) -> None:
    # Given a delivery from before
    producer.enqueue(request("before"), callback=Webhook("https://example.com/x"))
    carpool.until(lambda: carpool.ended(1))
    listening = copies.Copies(engine)
    assert list(listening.take()) == []

    # When requests with callbacks of both kinds end, and one without
    hook = producer.enqueue(request("one"), callback=Webhook("https://example.com/x"), metadata={"a": 1})
    task = producer.enqueue(request("two"), callback=Task("a.b"))
    producer.enqueue(request("three"))
    carpool.until(lambda: carpool.ended(4))
    taken = list(listening.take())

    # Then those with a callback are taken, once, and a receiver can verify them
    assert {one.request_id for one in taken} == {hook, task}
    assert list(listening.take()) == []
    secrets = ClientSecrets({}, [WEBHOOK_SECRET])
    done = [copies.forward(one, receiver.url("/hook"), secrets.of(one.client)) for one in taken]
    assert all(one.is_accepted for one in done)
    results = {verify(body, headers, WEBHOOK_SECRET) for headers, body in receiver.posts["/hook"]}
    assert {one.id: one.metadata for one in results} == {hook: {"a": 1}, task: None}


def test_a_receiver_that_is_not_there_or_redirects_is_said_to_be_so(receiver: Any) -> None:
    letter = copies.sample("request.completed", "default", None)
    receiver.answer("/moved", 302, {"Location": receiver.url("/elsewhere")})

    moved = copies.forward(letter, receiver.url("/moved"), [WEBHOOK_SECRET])
    away = copies.forward(letter, "http://127.0.0.1:1/x", [WEBHOOK_SECRET])

    assert (moved.status, moved.is_accepted, receiver.posts["/elsewhere"]) == (302, False, [])
    assert (away.status, away.error) == (None, "Connection refused")


@pytest.mark.parametrize("event", ["request.completed", "request.discarded", "request.canceled"])
def test_trigger_sends_a_sample_that_verifies(
    receiver: Any, event: str, monkeypatch: pytest.MonkeyPatch, command_line_without_database: None
) -> None:
    monkeypatch.setenv("CARPOOL_WEBHOOK_SECRET", WEBHOOK_SECRET)
    arguments = ("--forward-to", receiver.url("/in"), "--metadata", '{"invoice": 42}', "--client", "billing")

    shown = run("trigger", event, *arguments)

    assert shown.exit_code == 0, shown.output
    assert event in shown.output
    [(headers, body)] = receiver.posts["/in"]
    result = verify(body, headers, WEBHOOK_SECRET)
    assert f"request.{result.state}" == event
    assert (result.client, result.metadata, result.text.startswith("[sample]")) == (
        "billing",
        {"invoice": 42},
        event == "request.completed",
    )


def test_trigger_sends_the_end_of_a_batch_and_fails_where_it_is_not_taken(
    receiver: Any, monkeypatch: pytest.MonkeyPatch, command_line_without_database: None
) -> None:
    monkeypatch.setenv("CARPOOL_WEBHOOK_SECRET", WEBHOOK_SECRET)
    receiver.answer("/in", 500)

    shown = run("trigger", "batch.ended", "--forward-to", receiver.url("/in"))

    assert shown.exit_code == 1
    assert "batch.ended  msgbatch_" in shown.output
    assert "NOT ACCEPTED: 500" in shown.output
    assert run("trigger", "batch.begun", "--forward-to", receiver.url("/in")).exit_code == 2
    assert run("trigger", "--forward-to", "localhost:3000").exit_code == 2


def test_without_a_secret_nothing_is_sent(receiver: Any, command_line_without_database: None) -> None:
    shown = run("trigger", "--forward-to", receiver.url("/in"))
    assert "set CARPOOL_WEBHOOK_SECRET, or start `carpool up` in this folder" in shown.output
    assert receiver.posts == {}
