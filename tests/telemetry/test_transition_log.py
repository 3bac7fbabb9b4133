"""The log has a line for each move of a batch, and one for all requests that make the same move, with counts."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import sqlalchemy as sa
from tests.fixtures.agents import MODEL, Carpool, request
from tests.fixtures.deliveries import WEBHOOK_SECRET
from tests.fixtures.logs import logged
from tests.fixtures.receiver import Receiver

from carpool import Producer, Webhook
from carpool_worker.app import app
from carpool_worker.database import now, write
from carpool_worker.pipeline.delivery import courier
from carpool_worker.settings import Settings
from carpool_worker.simulator import Fault, RemoteSimulator
from carpool_worker.store.batches import filling, transitions


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="carpool_worker")


def test_a_batch_and_its_requests_tell_of_each_move(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    # Given three requests, whose batch is refused once
    simulator.arm(Fault(operation="create", kind="error", status=529))
    producer.enqueue_many([request(str(n)) for n in range(3)])

    # When they go all the way
    carpool.until(lambda: carpool.ended(3))

    # Then each move is a line, once
    moves = [(event, fields) for event, fields in logged(caplog) if event.startswith(("batch ", "requests "))]
    assert [event for event, _ in moves] == [
        "batch open",
        "requests batched",
        "batch sealed",
        "batch submitting",
        "batch sealed",
        "batch submitting",
        "batch in_progress",
        "batch ended",
        "requests completed",
        "batch completed",
    ]

    # And says of what
    [(batch_id, claude_id, lane)] = carpool.rows("SELECT id, claude_id, lane FROM batches")
    assert all(fields["batch"] == batch_id for _, fields in moves)
    assert [fields["count"] for event, fields in moves if event.startswith("requests")] == [3, 3]
    assert moves[4][1]["error"].startswith("529 overloaded_error")
    taken = moves[6][1]
    assert 0 <= taken.pop("seconds") < 20
    assert taken == {
        "move": "accept",
        "batch": batch_id,
        "claude_id": claude_id,
        "model": MODEL,
        "lane": lane,
        "requests": 3,
    }


def test_what_is_rolled_back_did_not_happen(engine: sa.Engine, caplog: pytest.LogCaptureFixture) -> None:
    # Given a transaction that opens a batch, seals it and fails
    def fail() -> None:
        with write(engine) as connection:
            opened = filling.open_in(connection, MODEL, MODEL, {}, now())
            assert transitions.seal(connection, opened.id, now())
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail()

    # When another one on the same connection commits
    with write(engine):
        pass

    # Then nothing is logged
    assert logged(caplog) == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_deliveries_that_fail_are_told_with_their_number_and_their_receiver(
    carpool: Carpool, producer: Producer, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    # Given an answer that its receiver takes, and one that it does not take
    receiver.answer("/no", 500)
    producer.enqueue(request("a"), callback=Webhook(receiver.url("/yes")))
    producer.enqueue(request("b"), callback=Webhook(receiver.url("/no")))
    carpool.until(lambda: carpool.ended(2))
    caplog.clear()

    # When they are delivered
    near: Any = {"webhook_secret": [WEBHOOK_SECRET], "webhook_allowed_networks": ["127.0.0.0/8"]}
    courier.deliver(carpool.engine, app, Settings(**near))

    # Then
    events = dict(logged(caplog))
    failed, settled = events["deliveries retryable"], events["deliveries settled"]
    to = f"127.0.0.1:{receiver.port}"
    assert failed == {"move": "snooze", "channel": "webhook", "receiver": to, "status": 500, "count": 1}
    assert (settled["delivered"], settled["retryable"]) == (1, 1)
