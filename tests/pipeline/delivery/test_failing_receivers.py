"""Receivers that only fail or hang: on the alarms within minutes, a line in the log a lot, and no work meanwhile."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import celery
import pytest
import sqlalchemy as sa
from aiohttp import web
from tests.fixtures.deliveries import (
    completed_request,
    deliver,
    deliveries_by_id,
    given_deliveries,
    insert_owed,
    webhook,
    webhook_settings,
)
from tests.fixtures.receiver import Receiver
from tests.fixtures.segments import insert_requests
from tests.fixtures.waiting import until

from carpool_worker import database
from carpool_worker.models import tables
from carpool_worker.pipeline.delivery import courier
from carpool_worker.states import DeliveryState
from carpool_worker.store.deliveries import endpoints, receivers
from carpool_worker.store.deliveries.endpoints import FAILING, Health
from carpool_worker.store.reports import status
from carpool_worker.units import DAY

TASK = {"kind": "task", "name": "billing.on_answer", "queue": "billing"}


def failing(engine: sa.Engine, in_milliseconds: int = FAILING) -> int:
    """How many receivers are on the alarms, that much later."""
    at = database.now() + in_milliseconds
    with database.read(engine) as connection:
        return status.delivering(connection, at, at).failing_endpoints


def deliver_to_no_broker(engine: sa.Engine) -> None:
    app = celery.Celery(broker="redis://127.0.0.1:1/0")
    courier.deliver(engine, app, webhook_settings())
    app.close()


def test_a_receiver_that_only_fails_is_on_the_alarms_within_minutes(
    engine: sa.Engine, receiver: Receiver
) -> None:
    # Given one that fails, one that has failed once, and one that is well
    receiver.answer("/down", 500)
    receiver.answer("/shaky", 500)
    given_deliveries(engine, *map(webhook, map(receiver.url, ("/down", "/shaky", "/well"))))
    deliver(engine)
    receiver.answer("/shaky", 200)
    given_deliveries(engine, webhook(receiver.url("/shaky")), first=10)
    deliver(engine)

    # Then the first is, after a few minutes
    assert failing(engine, in_milliseconds=0) == 0
    assert failing(engine) == 1

    # When it takes something, Then it is no longer
    receiver.answer("/down", 200)
    given_deliveries(engine, webhook(receiver.url("/down")), first=20)
    deliver(engine)
    assert failing(engine) == 0


def test_a_queue_whose_broker_is_away_is_on_them_too_and_is_never_stopped(
    engine: sa.Engine, redis_url: str
) -> None:
    # Given
    given_deliveries(engine, TASK)
    deliver_to_no_broker(engine)

    # Then
    assert failing(engine) == 1
    with database.write(engine) as connection:
        later = database.now() + 9 * DAY
        endpoints.record_health(
            connection, Health(frozenset(), frozenset({"queue:billing"}), frozenset()), 5 * DAY, later
        )
        [trouble] = endpoints.troubles(connection)
    assert (trouble.url, trouble.stopped_at) == ("queue:billing", None)

    # When the broker takes one, Then it is forgotten
    with database.write(engine) as connection:
        receivers.unpark(connection, ["queue:billing"])
    given_deliveries(engine, TASK, first=10)
    app = celery.Celery(broker=redis_url)
    courier.deliver(engine, app, webhook_settings())
    app.close()
    assert failing(engine) == 0


def test_what_is_no_longer_tried_rings_no_longer(engine: sa.Engine, receiver: Receiver) -> None:
    receiver.answer("/down", 500)
    given_deliveries(engine, webhook(receiver.url("/down")))
    deliver(engine)
    assert failing(engine, in_milliseconds=6 * DAY) == 0


def test_failures_are_logged_by_lot(
    engine: sa.Engine, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    # Given
    caplog.set_level(logging.INFO)
    receiver.answer("/down", 503)
    receiver.answer("/other", 500)
    given_deliveries(engine, *[webhook(receiver.url("/down"))] * 150, *[webhook(receiver.url("/other"))] * 50)

    # When
    deliver(engine)

    # Then
    lines: list[Any] = [one.msg for one in caplog.records if "deliveries retryable" in str(one.msg)]
    assert sum(line["count"] for line in lines if line["status"] == 503) == 150
    assert sum(line["count"] for line in lines if line["status"] == 500) == 50
    assert {line["receiver"] for line in lines} == {f"127.0.0.1:{receiver.port}"}
    assert len(lines) < 100


def test_while_only_a_busy_receiver_is_due_the_database_is_left_alone(
    engine: sa.Engine, receiver: Receiver
) -> None:
    # Given far more for a receiver that hangs than is claimed at a time
    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    receiver.answers["/hanging"] = hang
    callback = f'{{"kind":"webhook","url":"{receiver.url("/hanging")}"}}'
    with database.write(engine) as connection:
        for number in range(200):
            row = completed_request(f"{number:032x}", database.now(), callback=callback)
            insert_requests(connection, [row], answers={row["id"]: b"{}"})
        insert_owed(connection, database.now())
    asked: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *given: asked.append(given[2]))

    # When
    deliver(engine, webhook_timeout=3)

    # Then it was asked about once a second, and the rest of the backlog is as it was
    assert sum("RECURSIVE turns" in statement for statement in asked) < 40
    with database.read(engine) as connection:
        claims = list(connection.scalars(sa.select(tables.deliveries.c.claims)))
    assert sum(claims) <= 8
    tried = [one for one in deliveries_by_id(engine).values() if one.attempt]
    assert len(tried) <= 4


def test_a_run_that_only_a_hang_keeps_from_its_end_goes_on_for_others(
    engine: sa.Engine, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a run whose time is over, and which waits for the answers of a receiver that hangs
    over = threading.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.to_thread(over.wait)
        return web.Response()

    monkeypatch.setattr(courier, "RUN_SECONDS", 0.5)
    receiver.answers["/hanging"] = hang
    given_deliveries(engine, *[webhook(receiver.url("/hanging"))] * 300)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(deliver, engine, webhook_timeout=8)
        try:
            until(lambda: len(receiver.posts["/hanging"]) == 2)
            start = monotonic()
            until(lambda: monotonic() > start + 1.0)

            # When something becomes due to another one, Then it goes out meanwhile
            given_deliveries(engine, webhook(receiver.url("/quick", host="localhost")), first=1_000)
            until(lambda: len(receiver.posts["/quick"]) == 1, within=6)
            assert not run.done()
            assert run.result() == 1
        finally:
            over.set()

    # And the one that hangs was not asked again, and owes what it owed
    assert len(receiver.posts["/hanging"]) == 2
    made = deliveries_by_id(engine).values()
    assert sum(one.state is DeliveryState.AVAILABLE for one in made) == 298
