"""The courier on both databases: what is due is sent, recorded, tried again or given up on."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import celery
import pytest
import sqlalchemy as sa
from aiohttp import web
from standardwebhooks import Webhook

from carpool_worker import database
from carpool_worker.models import AnswerRow, DeliveryRow, Request, tables
from carpool_worker.pipeline.delivery import courier
from carpool_worker.settings import Settings, read_settings
from carpool_worker.states import DeliveryState, RequestState
from carpool_worker.store.deliveries import rows as deliveries

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ANSWER = b'{"type":"succeeded","message":{"content":[{"type":"text","text":"PRIVATE ANSWER"}]}}'


def settings_for(**overrides: Any) -> Settings:
    defaults = {"webhook_secret": SECRET, "webhook_allowed_networks": "127.0.0.0/8", "webhook_timeout": 5}
    return read_settings(**(defaults | overrides))


def given_deliveries(engine: sa.Engine, *callbacks: dict[str, str]) -> list[str]:
    ids = [f"{number:032x}" for number in range(len(callbacks))]
    now = database.now()
    with database.write(engine) as connection:
        for id_, callback in zip(ids, callbacks, strict=True):
            request = Request(
                id=id_,
                client="billing",
                model="claude-haiku-4-5",
                lane="claude-haiku-4-5",
                batch_id="b" * 32,
                state=RequestState.COMPLETED,
                outcome="succeeded",
                headers="{}",
                callback=json.dumps(callback),
                params_bytes=2,
                enqueued_at=now,
                batched_at=now,
                finished_at=now,
            )
            connection.execute(sa.insert(Request).values(_columns(request)))
            connection.execute(sa.insert(AnswerRow).values(request_id=id_, body=ANSWER))
        rows = [(id_, json.dumps(callback)) for id_, callback in zip(ids, callbacks, strict=True)]
        deliveries.insert(connection, rows, now)
    return ids


def _columns(request: Request) -> dict[str, Any]:
    values = request.model_dump()
    values.pop("request_metadata")
    return values


def webhook(url: str) -> dict[str, str]:
    return {"kind": "webhook", "url": url}


def deliver(engine: sa.Engine, **overrides: Any) -> int:
    return courier.deliver(engine, celery.Celery(broker="memory://"), settings_for(**overrides))


def by_id(engine: sa.Engine) -> dict[str, Any]:
    with database.read(engine) as connection:
        return {row.request_id: row for row in connection.execute(sa.select(tables.deliveries))}


def tries(engine: sa.Engine) -> list[Any]:
    with database.read(engine) as connection:
        return list(connection.execute(sa.select(tables.attempts)))


def test_what_is_due_reaches_its_receiver_signed_and_once(engine: sa.Engine, receiver: Any) -> None:
    # Given
    ids = given_deliveries(engine, *[webhook(receiver.url("/claude"))] * 30)

    # When
    count = deliver(engine) + deliver(engine)

    # Then
    assert count == 30
    data = [Webhook(SECRET).verify(body, headers)["data"] for headers, body in receiver.posts["/claude"]]
    assert sorted(one["id"] for one in data) == ids
    assert {row.state for row in by_id(engine).values()} == {DeliveryState.DELIVERED}
    assert {(row.attempt, row.status, row.detail) for row in tries(engine)} == {(1, 200, "thanks")}


def test_a_failed_delivery_waits_for_its_next_try(engine: sa.Engine, receiver: Any) -> None:
    # Given
    [id_] = given_deliveries(engine, webhook(receiver.url("/down")))
    receiver.answer("/down", 503, text="come back\0 later")

    # When
    before = database.now()
    deliver(engine, webhook_schedule=[100.0])

    # Then
    row = by_id(engine)[id_]
    assert (row.state, row.attempt, row.last_error) == (DeliveryState.RETRYABLE, 1, "answered 503")
    assert 80_000 <= row.due_at - before <= 125_000
    assert tries(engine)[0].detail == "come back\ufffd later"


def test_the_last_failed_try_gives_up_in_the_open(engine: sa.Engine, receiver: Any) -> None:
    # Given
    [id_] = given_deliveries(engine, webhook(receiver.url("/down")))
    receiver.answer("/down", 503)

    # When
    deliver(engine, webhook_schedule=[])

    # Then
    row = by_id(engine)[id_]
    assert (row.state, row.last_error) == (DeliveryState.DISCARDED, "answered 503; gave up after 1 tries")


def test_an_endpoint_that_answers_410_gets_nothing_more(engine: sa.Engine, receiver: Any) -> None:
    # Given
    receiver.answer("/gone", 410)
    first = given_deliveries(engine, webhook(receiver.url("/gone")))
    deliver(engine)

    # When
    with database.write(engine) as connection:
        connection.execute(sa.delete(DeliveryRow))
        connection.execute(sa.delete(Request))
        connection.execute(sa.delete(AnswerRow))
    again = given_deliveries(engine, webhook(receiver.url("/gone")), webhook(receiver.url("/fine")))
    deliver(engine)

    # Then
    assert len(receiver.posts["/gone"]) == len(first) == 1
    states = [by_id(engine)[id_].state for id_ in again]
    assert states == [DeliveryState.DISCARDED, DeliveryState.DELIVERED]


def test_without_a_secret_deliveries_wait_and_the_log_says_for_what(
    engine: sa.Engine, receiver: Any, caplog: pytest.LogCaptureFixture
) -> None:
    # Given
    [id_] = given_deliveries(engine, webhook(receiver.url("/claude")))

    # When
    deliver(engine, webhook_secret=[])

    # Then
    assert receiver.posts == {}
    assert (by_id(engine)[id_].state, by_id(engine)[id_].attempt) == (DeliveryState.RETRYABLE, 0)
    assert "CARPOOL_WEBHOOK_SECRET" in by_id(engine)[id_].last_error
    assert "CARPOOL_WEBHOOK_SECRET" in caplog.text


def test_a_hanging_receiver_does_not_delay_the_others(
    engine: sa.Engine, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given: more for the hanging receiver, and earlier, than the window takes
    monkeypatch.setattr("carpool_worker.pipeline.delivery.in_flight.MOST_DELIVERIES", 60)
    monkeypatch.setattr("carpool_worker.pipeline.delivery.in_flight.CHUNK_DELIVERIES", 20)
    monkeypatch.setattr("carpool_worker.pipeline.delivery.courier.CHUNK_DELIVERIES", 20)

    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    receiver.answers["/hanging"] = hang
    hanging = [webhook(receiver.url("/hanging"))] * 100
    ids = given_deliveries(engine, *hanging, *[webhook(receiver.url("/quick", host="localhost"))] * 10)

    # When
    deliver(engine, webhook_timeout=3, webhook_host_concurrency=5)

    # Then
    rows = by_id(engine)
    assert {rows[id_].state for id_ in ids[100:]} == {DeliveryState.DELIVERED}
    assert {rows[id_].state for id_ in ids[:100]} == {DeliveryState.RETRYABLE}
    hung = [row for row in tries(engine) if row.request_id in ids[:100]]
    assert max(rows[id_].delivered_at for id_ in ids[100:]) < min(row.at + row.milliseconds for row in hung)
    assert sum(rows[id_].attempt for id_ in ids[:100]) == len(hung)


def test_no_answer_and_no_secret_shows_up_in_the_log(
    engine: sa.Engine, receiver: Any, caplog: pytest.LogCaptureFixture
) -> None:
    # Given
    caplog.set_level(logging.DEBUG)
    receiver.answer("/down", 503, text="PRIVATE ANSWER")
    task = {"kind": "task", "name": "billing.on_answer", "queue": "billing"}
    given_deliveries(engine, webhook(receiver.url("/down")), webhook("https://no.invalid/"), task)

    # When
    deliver(engine)

    # Then
    assert "PRIVATE" not in caplog.text
    assert SECRET not in caplog.text
    assert SECRET.removeprefix("whsec_") not in caplog.text
