"""What operators see of calls in real time, and what they do about lost ones."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import pytest
from tests.fixtures.agents import Carpool, request
from tests.fixtures.calls import Calling, calling, pooled, state
from tests.fixtures.deliveries import claim_all

from carpool import Producer, Result
from carpool.contract import to_json
from carpool_worker.database import now, read, write
from carpool_worker.pipeline.delivery.channels.reply import push_packed
from carpool_worker.settings import Settings
from carpool_worker.simulator import Fault, RemoteSimulator
from carpool_worker.store.reports import clients
from carpool_worker.store.requests import discarded, sendable
from carpool_worker.store.requests.answers import load_answers
from carpool_worker.store.requests.discarded import Chance, DiscardedFilter
from carpool_worker.views import requests, usage

__all__ = ["calling"]


def test_a_lost_call_is_retried_only_by_who_would_pay_for_it_twice(
    unhurried: Carpool, calling: Calling, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given
    ids = pooled(unhurried, producer, "Hurry")
    simulator.arm(Fault(operation="messages", kind="lost"))
    calling.take_out(*ids)
    calling.call()
    wanted = DiscardedFilter(kept_since=0)
    # When
    with read(unhurried.engine) as connection:
        (counted,) = discarded.count(connection, wanted)
    with write(unhurried.engine) as connection:
        assert discarded.retry(connection, wanted, [Chance.FREE], 10, now()) == 0
        assert discarded.retry(connection, wanted, [Chance.PAID], 10, now()) == 1
    # Then it may be called once more
    assert counted.chance is Chance.PAID
    assert calling.take_out(*ids).queued == ids
    calling.call()
    assert state(unhurried, ids[0]) == ("completed", "succeeded", None)
    assert unhurried.rows("SELECT round, state FROM real_time_calls ORDER BY round") == [
        (0, "lost"),
        (1, "answered"),
    ]


def test_whoever_waits_learns_that_it_was_answered_in_real_time(
    unhurried: Carpool, calling: Calling, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unhurried, "announce", lambda _, replies: push_packed(unhurried.server, replies))
    # Given two requests whose producer waits for them, one of which is called
    called, waits = producer.enqueue_many(map(request, ("Hurry", "Wait")), reply=True)
    unhurried.aggregate()
    calling.take_out(called)
    calling.call()
    unhurried.limits = replace(unhurried.limits, seconds=0.0)
    unhurried.until(lambda: unhurried.ended(2))
    # Then the answers that were pushed say so, and so do those that are read from the tables
    pushed = {one.id: one.processing for one in producer.as_completed([called, waits], timeout=20)}
    assert pushed == {called: "real_time", waits: "batch"}
    with read(unhurried.engine) as connection:
        stored = load_answers(connection, [called, waits])
    assert {id_: Result.from_json(to_json(one)).processing for id_, one in stored.items()} == pushed
    assert b"processing" not in to_json(stored[waits])


def test_requests_show_tells_of_the_call_and_its_money(
    unhurried: Carpool, calling: Calling, producer: Producer
) -> None:
    # Given
    ids = pooled(unhurried, producer, "Hurry")
    calling.take_out(*ids)
    with read(unhurried.engine) as connection:
        waits = requests.find(connection, Settings(), ids[0])
        assert clients.waiting(connection) == {"tests": 1}
        assert clients.waiting_by_state(connection, "tests") == {"real time": 1}
    # When
    calling.call()
    with read(unhurried.engine) as connection:
        found = requests.find(connection, Settings(), ids[0])
        (row,) = usage.totals(connection, ["processing"])
    # Then
    assert waits.waiting_for == "a call in real time"
    (called,) = found.calls
    assert (called.state, called.cost, found.batch_id) == ("answered", found.cost, None)
    assert any("its call: answered" in event.words for event in found.story)
    assert (row.processing, row.cost, row.saved) == ("real_time", found.cost, Decimal(0))


def test_the_data_of_a_webhook_tells_that_it_was_called(
    unhurried: Carpool, calling: Calling, producer: Producer
) -> None:
    ids = pooled(unhurried, producer, "Hurry")
    calling.take_out(*ids)
    calling.call()
    with write(unhurried.engine) as connection:
        loaded = sendable.load(connection, claim_all(connection, now()), 10**6)
    ((content,),) = loaded.values()
    data = json.loads(sendable.answer_json(content))
    assert (data["processing"], data["batch_id"]) == ("real_time", None)
    assert data["cost"] == data["list_price"]
