"""The courier on both databases: what is due is sent, recorded, tried again or given up on."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
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
from tests.fixtures.waiting import until

from carpool_worker import database
from carpool_worker.models import tables
from carpool_worker.states import DeliveryState
from carpool_worker.store.deliveries import receivers
from carpool_worker.store.deliveries import rows as deliveries


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
    assert (row.state, row.last_error) == (DeliveryState.DISCARDED, "answered 503; gave up after 1 try")


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


@pytest.mark.parametrize(
    ("hanging", "parked"),
    [(30, False), (300, False), (300, True)],
    ids=["all its are loaded", "some of its are only claimed", "it is parked"],
)
def test_what_becomes_due_goes_out_while_only_a_hanging_receiver_is_waited_for(
    engine: sa.Engine, receiver: Any, monkeypatch: pytest.MonkeyPatch, hanging: int, parked: bool
) -> None:
    # Given a run that has nothing to do but for a receiver that hangs, at once or after it was slow and is parked
    over = threading.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        if parked and len(receiver.posts["/hanging"]) == 1:
            await asyncio.sleep(1.1)
            return web.Response()
        await asyncio.to_thread(over.wait)
        return web.Response()

    monkeypatch.setattr("carpool_worker.pipeline.delivery.sending.SLOW_SECONDS", 1.0)
    receiver.answers["/hanging"] = hang
    given_deliveries(engine, *[webhook(receiver.url("/hanging"))] * hanging)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(deliver, engine, webhook_timeout=15)
        try:
            until(lambda: len(receiver.posts["/hanging"]) == 2 and are_parked(engine) == parked)

            # When answers to another one become due, twice
            for first, path in ((1_000, "/one"), (2_000, "/two")):
                quick = webhook(receiver.url(path, host="localhost"))
                given_deliveries(engine, *[quick] * 10, first=first)

                # Then they are delivered meanwhile
                until(lambda: len(receiver.posts[path]) == 10, within=10)  # noqa: B023
                assert not run.done()
        finally:
            over.set()
        run.result()
    made = deliveries_by_id(engine).values()
    assert sum(one.state is DeliveryState.DELIVERED for one in made if "localhost" in one.target) == 20


def are_parked(engine: sa.Engine) -> bool:
    with database.read(engine) as connection:
        return connection.scalars(sa.select(tables.parked_receivers.c.receiver)).first() is not None


def test_what_is_due_to_a_parked_receiver_hides_nothing_that_is_due_to_others(
    engine: sa.Engine, receiver: Any
) -> None:
    # Given: a parked receiver has much that is due
    parked = webhook(receiver.url("/parked"))
    given_deliveries(engine, *[parked] * 300)
    unparked_at = database.now() + 60_000
    with database.write(engine) as connection:
        receivers.park(connection, {f"127.0.0.1:{receiver.port}": (unparked_at, "slow")})

    # When nothing else is, Then a courier has nothing to do until then
    assert deliver(engine) == 0
    with database.read(engine) as connection:
        assert not deliveries.due(connection, database.now())
        assert deliveries.next_due(connection, database.now()) == unparked_at

    # When something becomes due to another one, Then it is delivered
    given_deliveries(engine, *[webhook(receiver.url("/quick", host="localhost"))] * 10, first=1_000)
    with database.read(engine) as connection:
        assert deliveries.due(connection, database.now())
    assert deliver(engine) == 10
    assert (len(receiver.posts["/quick"]), len(receiver.posts["/parked"])) == (10, 0)


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


def test_what_is_due_to_one_client_delays_another_s_by_no_more_than_a_turn(
    engine: sa.Engine, receiver: Any
) -> None:
    # Given a client with far more due, and for longer, than another, whose answers go to the same receiver
    given_deliveries(engine, *[webhook(receiver.url("/claude"))] * 4_000)
    small = given_deliveries(engine, *[webhook(receiver.url("/claude"))] * 10, first=10_000, client="small")
    with database.write(engine) as connection:
        row = tables.deliveries.c
        connection.execute(sa.update(tables.deliveries).where(row.client != "small").values(due_at=1))

    # When
    deliver(engine)

    # Then the other's go with the first segments, however many follow
    order = [headers["webhook-id"] for headers, _ in receiver.posts["/claude"]]
    assert set(small) <= set(order)
    assert max(map(order.index, small)) < 1_000
