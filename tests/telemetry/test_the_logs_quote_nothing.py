"""Nothing that a client, Claude or a receiver says gets into a log, however wrong things go, at DEBUG level."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from traceback import format_exception
from typing import Any

import pytest
import sqlalchemy as sa
from tests.fixtures.agents import Carpool, request
from tests.fixtures.logs import logged
from tests.fixtures.receiver import Receiver

from carpool import Producer, Request, Webhook
from carpool.contract import ENTRY_FIELD, INBOX, Envelope, encode_entry
from carpool_worker.app import app
from carpool_worker.claude.client import Claude
from carpool_worker.database import write
from carpool_worker.models import tables
from carpool_worker.pipeline import pruner
from carpool_worker.pipeline.collection import collector
from carpool_worker.pipeline.delivery import courier
from carpool_worker.policies.retries import CollectPolicy
from carpool_worker.settings import Settings
from carpool_worker.store.bulk import insert_rows, update_rows
from carpool_worker.store.requests import intake
from carpool_worker.store.requests.segments import Place
from carpool_worker.telemetry import logs

MARK = "MARKED-content"
BAD_RESULTS = (
    b'{"custom_id":"%s","result":{"type":"succeeded","message":{"model":"MARKED-content","usage":"MARKED-content"}}}',
    b'{"custom_id":"%s","result":{"type":"MARKED-content"}}',
    b'{"custom_id":"%s","result":{"type":"errored","error":{"error":{"type":7,"message":"MARKED-content"}}}}',
    b'{"custom_id":"%s","result":{"MARKED-content":',
    b'{"custom_id":"%s","result":["MARKED-content"]}',
)


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def assert_nothing_was_quoted(caplog: pytest.LogCaptureFixture) -> None:
    assert caplog.records
    for record in caplog.records:
        for as_json in (True, False):
            assert MARK not in logs.formatter(as_json).format(
                record
            )  # with the traceback, where there is one


class Mangled(Claude):
    """Answers with lines that can't be read, each in another way."""

    def results(self, *arguments: Any) -> Iterator[bytes]:
        custom_ids = [line.split(b'"')[3] for line in sorted(super().results(*arguments))]
        for custom_id, template in zip(custom_ids, BAD_RESULTS, strict=True):
            yield template % custom_id


def envelope(**fields: Any) -> Envelope:
    known: dict[str, Any] = {
        "id": "a" * 32,
        "client": MARK,
        "model": "m",
        "params": MARK.encode(),
        "headers": {},
        "callback": None,
        "metadata": f'"{MARK}"'.encode(),
        "idempotency_key": MARK,
        "enqueued_at": 1,
    }
    return Envelope(**(known | fields))


def test_the_whole_way_with_bad_results_and_rude_receivers(
    carpool: Carpool, producer: Producer, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    # Given requests, results that can't be read, and a receiver that quotes what it got
    receiver.answer("/rude", 500, {"X-Said": MARK, "Retry-After": MARK}, MARK)
    hook = Webhook(receiver.url("/rude"))
    producer.enqueue_many(
        [
            Request(request(f"{MARK} {n}"), callback=hook, metadata={"mark": MARK})
            for n in range(len(BAD_RESULTS))
        ]
    )
    for step in (carpool.aggregate, carpool.submit):
        step()
    carpool.until_polled("ended")

    # When they go all the way
    [batch] = carpool.rows("SELECT id FROM batches")
    claude = Mangled()
    collector.collect(
        carpool.engine, claude, batch.id, CollectPolicy(max_attempts=1, retry_interval=1), lambda *_: None
    )
    claude.close()
    carpool.collect()
    whsec = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    nearby = Settings(webhook_secret=[whsec], webhook_allowed_networks=["127.0.0.0/8"])  # type: ignore[list-item]
    courier.deliver(carpool.engine, app, nearby)
    pruner.prune(carpool.engine, 7, 29)

    # Then the receiver was asked, and no log quotes anyone
    assert receiver.posts["/rude"]
    assert_nothing_was_quoted(caplog)


@pytest.mark.parametrize(
    "packed",
    [
        MARK.encode(),
        encode_entry([MARK]),
        encode_entry([envelope(id=MARK)]),
        encode_entry([envelope(callback=b'{"kind":"MARKED-content"}')]),
        encode_entry([envelope(metadata=b"MARKED-content")]),
        encode_entry([envelope(headers={"anthropic-beta": MARK + "\n"})]),
    ],
)
def test_entries_that_cant_be_taken(
    carpool: Carpool, packed: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    carpool.server.xadd(INBOX, {ENTRY_FIELD: packed})

    carpool.aggregate()

    assert "inbox entry quarantined" in dict(logged(caplog))
    assert_nothing_was_quoted(caplog)


PLACES = {"a" * 32: Place(1, 0)}


def twice(connection: sa.Connection) -> None:
    intake.insert(connection, "b" * 32, [envelope(), envelope()], PLACES)


def too_large(connection: sa.Connection) -> None:
    intake.insert(connection, "b" * 32, [envelope(enqueued_at=2**63)], PLACES)


def in_no_state(connection: sa.Connection) -> None:
    intake.insert(connection, "b" * 32, [envelope()], PLACES)
    rows = [(bytes.fromhex("a" * 32), MARK)]
    update_rows(connection, "requests", {"state": "text"}, rows, "requests.attempt = 1", {})


def no_number(connection: sa.Connection) -> None:
    intake.insert(connection, "b" * 32, [envelope()], PLACES)
    rows = [(bytes.fromhex("a" * 32), MARK)]
    update_rows(connection, "requests", {"finished_at": "bigint"}, rows, "requests.attempt = 1", {})


def nul(connection: sa.Connection) -> None:
    columns = {"request_id": "text", "client": "text", "requested_at": "bigint"}
    insert_rows(connection, "cancellations", columns, [(MARK + "\0", MARK, None)])


def ended_at_no_time(connection: sa.Connection) -> None:
    intake.insert(connection, "b" * 32, [envelope()], PLACES)
    connection.execute(sa.update(tables.requests).values(finished_at=1))


@pytest.mark.parametrize("fail", [twice, too_large, in_no_state, no_number, nul, ended_at_no_time])
def test_statements_that_the_database_refuses(
    engine: sa.Engine, fail: Any, caplog: pytest.LogCaptureFixture
) -> None:
    # Given / When
    with pytest.raises((sa.exc.DBAPIError, OverflowError, TypeError)) as refused, write(engine) as connection:
        fail(connection)

    # Then neither it nor what caused it quotes the row
    assert MARK not in "".join(format_exception(refused.value))
