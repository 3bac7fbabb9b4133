"""`carpool status`, `batches` and `clients` while there is not room for all: whose turn it is, and what each gets."""

from __future__ import annotations

import json

import pytest
from tests.fixtures.agents import Carpool, request
from tests.fixtures.command_line import fits_80_columns, rows, succeeded

from carpool import Producer
from carpool_worker import settings
from carpool_worker.pipeline.submission import turns

pytestmark = pytest.mark.usefixtures("command_line")


@pytest.fixture
def crowded(carpool: Carpool, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Carpool:
    """There is room for three: a big client has two batches, one of them at Anthropic, and a small one has another."""
    monkeypatch.setenv("CARPOOL_QUEUE_LIMIT", "3")
    monkeypatch.setenv("CARPOOL_CLIENT_WEIGHTS", '{"small": 2}')
    settings.settings.cache_clear()
    for client, count in (("big", 3), ("big", 3), ("small", 2)):
        with Producer(redis_url, client=client) as producer:
            producer.enqueue_many([request()] * count)
        carpool.aggregate()
    carpool.change(
        "UPDATE batches SET state = 'submitting', submitting_at = 1 WHERE request_count = 3 AND opened_at = "
        "(SELECT min(opened_at) FROM batches)"
    )
    turns.count_clients(carpool.engine, settings.settings().submit_policy)
    return carpool


def test_status_says_whose_turn_is_next_and_what_share_each_gets(crowded: Carpool) -> None:
    shown, status = succeeded("status"), json.loads(succeeded("status", "--json"))

    found = [
        (one["client"], one["place"], one["waiting"], one["weight"], one["share"]) for one in status["turns"]
    ]
    assert found == [("big", 1, 3, 1.0, 0.3333), ("small", 2, 2, 2.0, 0.6667)]
    assert "Turns" in shown
    assert "next big (33%, 3 waiting), then small (67%, 2 waiting)" in shown
    assert fits_80_columns(shown)


def test_batches_say_what_goes_before_them_and_whose_they_are(crowded: Carpool) -> None:
    _, big, small = rows("batches")

    assert (big["clients"], small["clients"]) == ({"big": 3}, {"small": 2})
    queue = "room: 3 of 3 requests are queued at Anthropic"
    assert big["waiting_for"] == f"{queue}; it is next, big's turn"
    assert small["waiting_for"] == f"{queue}; 1 batch before it, small's turn"
    assert "of clients: 2 of small\n" in succeeded("batches", "show", small["id"])


def test_clients_have_turns_and_shares(crowded: Carpool) -> None:
    found = {row["client"]: (row["turn"], row["share"], row["weight"]) for row in rows("clients")}
    one = json.loads(succeeded("clients", "show", "small", "--json"))

    assert found == {"big": (1, 0.3333, 1.0), "small": (2, 0.6667, 2.0)}
    assert [turn["place"] for turn in one["turns"]] == [2]
    assert "turn: 2, 67% of the room of account default (weight 2), next with batch " in succeeded(
        "clients", "show", "small"
    )
    assert fits_80_columns(succeeded("clients"))
