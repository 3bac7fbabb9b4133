"""Clients that share a receiver take turns there, on both databases: none waits for what is due to another."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa
from aiohttp import web
from tests.fixtures.deliveries import deliver, given_deliveries, webhook

from carpool_worker.database import read
from carpool_worker.models import tables
from carpool_worker.pipeline.delivery import backlog, courier, sending


def load_few(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (backlog, sending):
        monkeypatch.setattr(module, "LOADED_DELIVERIES", 100)


def test_what_becomes_due_to_one_client_goes_before_what_was_claimed_for_another(
    engine: sa.Engine, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a client with much due, all of it claimed at once, but for little that is loaded
    monkeypatch.setattr(courier, "CLAIM_SECONDS", 0.05)
    load_few(monkeypatch)
    url = receiver.url("/claude")
    given_deliveries(engine, *[webhook(url)] * 1_600, client="big")
    small = list[str]()

    async def answer(request: web.Request) -> web.StreamResponse:
        if len(receiver.posts["/claude"]) == 200:
            small.extend(given_deliveries(engine, *[webhook(url)] * 3, first=10_000, client="small"))
        return web.Response()

    receiver.answers["/claude"] = answer

    # When some become due to another meanwhile
    assert deliver(engine) == 1_603

    # Then they don't wait for the rest
    order = [headers["webhook-id"] for headers, _ in receiver.posts["/claude"]]
    assert len(order) == len(set(order))
    assert max(map(order.index, small)) < 1_300


@pytest.mark.parametrize("heavy", ["web", "nightly"])
def test_the_client_with_the_weight_has_most_of_a_receiver(
    engine: sa.Engine, receiver: Any, heavy: str
) -> None:
    # Given
    url = receiver.url("/claude")
    web_ids = set(given_deliveries(engine, *[webhook(url)] * 600, client="web"))
    given_deliveries(engine, *[webhook(url)] * 600, first=10_000, client="nightly")

    # When
    deliver(engine, client_weights={heavy: 100})

    # Then, though the other may have come first with a row of 200; the exact shares are in test_turn_queues.py
    order = [headers["webhook-id"] for headers, _ in receiver.posts["/claude"]]
    ends = [at for at, id_ in enumerate(order) if (id_ in web_ids) == (heavy == "web")]
    assert ends[-1] < 900
    assert len(set(order)) == len(order) == 1_200


def test_what_a_run_had_only_claimed_is_next_in_the_following_one(
    engine: sa.Engine, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a run that is over before it has loaded all that it claimed
    load_few(monkeypatch)
    monkeypatch.setattr(courier, "RUN_SECONDS", 1.5)
    ids = given_deliveries(engine, *[webhook(receiver.url("/claude"))] * 1_600)

    async def answer(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.05)
        return web.Response()

    receiver.answers["/claude"] = answer
    with read(engine) as connection:
        due = {row.answer_id: row.due_at for row in connection.execute(sa.select(tables.deliveries))}

    # When
    first = deliver(engine, webhook_host_concurrency=5)

    # Then it gave that back at once, as it was
    with read(engine) as connection:
        given_back = connection.execute(
            sa.select(tables.deliveries).where(tables.deliveries.c.state == "available")
        ).all()
    assert 0 < first < 1_600
    assert 1 in {row.claims for row in given_back}
    assert [row.due_at for row in given_back] == [due[row.answer_id] for row in given_back]

    # When, Then
    monkeypatch.undo()
    del receiver.answers["/claude"]
    while first < 1_600:
        first += deliver(engine)
    order = [headers["webhook-id"] for headers, _ in receiver.posts["/claude"]]
    assert sorted(order) == ids
