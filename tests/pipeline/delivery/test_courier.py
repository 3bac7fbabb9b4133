"""The courier on both databases: what is due is sent, recorded, tried again or given up on."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
import sqlalchemy as sa
from aiohttp import web
from standardwebhooks import Webhook
from tests.fixtures.deliveries import (
    WEBHOOK_SECRET,
    attempts,
    deliver,
    deliveries_by_id,
    given_deliveries,
    webhook,
)

from carpool_worker import database
from carpool_worker.models import tables
from carpool_worker.states import DeliveryState


def test_what_is_due_reaches_its_receiver_signed_and_once(engine: sa.Engine, receiver: Any) -> None:
    # Given
    ids = given_deliveries(engine, *[webhook(receiver.url("/claude"))] * 30)

    # When
    count = deliver(engine) + deliver(engine)

    # Then
    assert count == 30
    data = [
        Webhook(WEBHOOK_SECRET).verify(body, headers)["data"] for headers, body in receiver.posts["/claude"]
    ]
    assert sorted(one["id"] for one in data) == ids
    made = deliveries_by_id(engine).values()
    assert {(one.state, one.attempt, one.last_error) for one in made} == {(DeliveryState.DELIVERED, 1, None)}
    assert attempts(engine) == []
    with database.read(engine) as connection:
        [row] = connection.execute(sa.select(tables.deliveries)).all()
    assert (row.pending, row.delivered, row.progress) == (0, 30, None)


def test_a_failed_delivery_waits_for_its_next_try(engine: sa.Engine, receiver: Any) -> None:
    # Given
    [id_] = given_deliveries(engine, webhook(receiver.url("/down")))
    receiver.answer("/down", 503, text="come back\0 later")

    # When
    before = database.now()
    deliver(engine, webhook_schedule=[100.0])

    # Then
    row = deliveries_by_id(engine)[id_]
    assert (row.state, row.attempt, row.last_error) == (DeliveryState.RETRYABLE, 1, "answered 503")
    assert 80_000 <= row.due_at - before <= 125_000
    assert attempts(engine)[0].detail == "come back\ufffd later"


def test_the_last_failed_try_gives_up_in_the_open(engine: sa.Engine, receiver: Any) -> None:
    # Given
    [id_] = given_deliveries(engine, webhook(receiver.url("/down")))
    receiver.answer("/down", 503)

    # When
    deliver(engine, webhook_schedule=[])

    # Then
    row = deliveries_by_id(engine)[id_]
    assert (row.state, row.last_error) == (DeliveryState.DISCARDED, "answered 503; gave up after 1 tries")


def test_an_endpoint_that_answers_410_gets_nothing_more(engine: sa.Engine, receiver: Any) -> None:
    # Given
    receiver.answer("/gone", 410)
    first = given_deliveries(engine, webhook(receiver.url("/gone")))
    deliver(engine)

    # When
    with database.write(engine) as connection:
        for table in (tables.deliveries, tables.requests, tables.segments, tables.answers):
            connection.execute(sa.delete(table))
    again = given_deliveries(engine, webhook(receiver.url("/gone")), webhook(receiver.url("/fine")))
    deliver(engine)

    # Then
    assert len(receiver.posts["/gone"]) == len(first) == 1
    states = [deliveries_by_id(engine)[id_].state for id_ in again]
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
    assert (deliveries_by_id(engine)[id_].state, deliveries_by_id(engine)[id_].attempt) == (
        DeliveryState.RETRYABLE,
        0,
    )
    assert "CARPOOL_WEBHOOK_SECRET" in str(deliveries_by_id(engine)[id_].last_error)
    assert "CARPOOL_WEBHOOK_SECRET" in caplog.text


def test_a_hanging_receiver_does_not_delay_the_others(
    engine: sa.Engine, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given: more for the hanging receiver, and earlier, than fits into memory
    monkeypatch.setattr("carpool_worker.pipeline.delivery.sending.MOST_LETTERS", 60)

    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    receiver.answers["/hanging"] = hang
    hanging = [webhook(receiver.url("/hanging"))] * 100
    ids = given_deliveries(engine, *hanging, *[webhook(receiver.url("/quick", host="localhost"))] * 10)

    # When
    deliver(engine, webhook_timeout=3, webhook_host_concurrency=5)

    # Then
    rows = deliveries_by_id(engine)
    assert {rows[id_].state for id_ in ids[100:]} == {DeliveryState.DELIVERED}
    hung = {row.request_id: row for row in attempts(engine)}
    assert {rows[id_].state for id_ in hung} == {DeliveryState.RETRYABLE}
    assert {rows[id_].attempt for id_ in ids[:100] if id_ not in hung} == {0}
    assert len(hung) < 20
    first_timeout = min(row.at + row.milliseconds for row in hung.values())
    assert max(rows[id_].delivered_at or 0 for id_ in ids[100:]) < first_timeout
    with database.read(engine) as connection:
        [parked] = connection.execute(sa.select(tables.parked_receivers)).all()
    assert parked.receiver == f"127.0.0.1:{receiver.port}"


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
    assert WEBHOOK_SECRET not in caplog.text
    assert WEBHOOK_SECRET.removeprefix("whsec_") not in caplog.text
