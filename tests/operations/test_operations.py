"""What an operator does, without a command line: typed in and out, and logged with who asked."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from celery import Celery
from tests.fixtures.agents import MODEL, Carpool, request
from tests.fixtures.logs import logged
from tests.fixtures.queries import batch_states, request_states, request_states_by_id

from carpool import Producer, Webhook
from carpool.contract import ENTRY_FIELD, INBOX
from carpool_worker.coordination.keys import QUARANTINE
from carpool_worker.database import read
from carpool_worker.operations import cancel, endpoints, lanes, purge, quarantine, replay, retry
from carpool_worker.pipeline.inbox.quarantine import EntryUnknown
from carpool_worker.settings import read_settings, settings
from carpool_worker.views.deliveries import DeliveryFilter, failing_endpoints
from carpool_worker.views.lanes import active

ADA = "console:ada"
HOOK = Webhook("https://billing.example.com/claude")
OPERATIONS = "carpool_worker.operations"


@pytest.fixture(autouse=True)
def _log_operations(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=OPERATIONS)


def of_operations(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    return [(event, fields) for event, fields in logged(caplog) if "actor" in fields]


def test_cancel_returns_what_became_of_each_request(
    carpool: Carpool, producer: Producer, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a request that has ended, one at Anthropic, one that waits, and one that nobody enqueued
    ended = producer.enqueue(request("a"))
    carpool.until(lambda: carpool.ended(1))
    out = producer.enqueue(request("b"))
    carpool.aggregate()
    carpool.submit()
    waiting = producer.enqueue(request("c"))
    carpool.aggregate()

    # When
    outcome = cancel.cancel(carpool.engine, [ended, out, waiting, "0" * 32], actor=ADA)

    # Then
    assert outcome == cancel.CancelOutcome(canceled=1, at_anthropic=1, ended=1, unknown=["0" * 32])
    assert request_states_by_id(carpool.engine)[waiting] == "canceled"
    fields = {"actor": ADA, "canceled": 1, "at_anthropic": 1, "ended": 1, "unknown": 1}
    assert of_operations(caplog) == [("requests canceled by operator", fields)]


def test_what_a_cancel_of_a_batch_or_a_client_is_about(carpool: Carpool, producer: Producer) -> None:
    ids = [producer.enqueue(request(text)) for text in "ab"]
    carpool.aggregate()
    [batch_id] = [row.id for row in carpool.rows("SELECT id FROM batches")]

    assert list(cancel.unfinished_in_batch(carpool.engine, batch_id)) == sorted(ids)
    assert sorted(cancel.unfinished_of_client(carpool.engine, "tests")) == sorted(ids)
    assert list(cancel.unfinished_of_client(carpool.engine, "nobody")) == []
    with pytest.raises(cancel.UnknownBatch):
        cancel.unfinished_in_batch(carpool.engine, "msgbatch_none")


def test_what_is_in_the_inbox_is_canceled_when_a_worker_reads_it(
    carpool: Carpool, producer: Producer, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    producer.enqueue(request("a"))

    cancel.cancel_in_inbox(read_settings(redis_url=redis_url), "tests", actor=ADA)
    carpool.aggregate()

    assert request_states(carpool.engine) == ["canceled"]
    assert of_operations(caplog) == [("inbox canceled by operator", {"actor": ADA, "client": "tests"})]
    with pytest.raises(cancel.InboxNotReached):
        cancel.cancel_in_inbox(read_settings(redis_url="redis://127.0.0.1:1/0"), "tests", actor=ADA)


def test_a_retry_is_estimated_first_and_then_puts_the_requests_back(
    carpool: Carpool, producer: Producer, caplog: pytest.LogCaptureFixture
) -> None:
    # Given an answer that cost something, and a request that expired too often
    producer.enqueue(request("a"))
    carpool.until(lambda: carpool.ended(1))
    id_ = producer.enqueue(request("b"))
    carpool.aggregate()
    carpool.change(
        "UPDATE requests SET state = 'discarded', outcome = 'expired', finished_at = enqueued_at"
        f" WHERE id = id_of('{id_}')"
    )

    # When
    chances = retry.chances(even_paid=False)
    with read(carpool.engine) as connection:
        wanted = retry.choose(connection, settings(), ids=[id_[:31]])
        estimate = retry.estimate(connection, wanted, chances)
    count = retry.retry(carpool.engine, wanted, chances, actor=ADA)

    # Then
    assert (estimate.count(chances), estimate.unpriced, estimate.notified) == (1, 0, 0)
    assert estimate.cost > 0
    assert count == 1
    assert request_states_by_id(carpool.engine)[id_] == "retryable"
    assert of_operations(caplog) == [("requests retried by operator", {"actor": ADA, "count": 1})]


def test_lanes_are_flushed_paused_and_resumed(
    unhurried: Carpool, producer: Producer, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    carpool = unhurried
    producer.enqueue(request("a"))
    carpool.aggregate()

    with Celery(broker=redis_url, set_as_current=False) as app:
        flushed = lanes.flush(carpool.engine, app, model=MODEL, actor=ADA)
    lanes.pause(carpool.engine, [MODEL], "over budget", actor=ADA)
    with read(carpool.engine) as connection:
        [paused] = active(connection)
    resumed = lanes.resume(carpool.engine, [MODEL], actor=ADA)
    again = lanes.resume(carpool.engine, [MODEL], actor=ADA)

    assert [(batch.lane, batch.requests) for batch in flushed.batches] == [(MODEL, 1)]
    assert (flushed.expedited, batch_states(carpool.engine)) == (0, ["sealed"])
    assert (paused.paused_by_operator, paused.reason) == (True, "over budget")
    assert (resumed, again) == ([MODEL], [])
    with pytest.raises(lanes.UnknownLane, match="there is no lane 'another'"):
        lanes.pause(carpool.engine, ["another"], "", actor=ADA)
    assert [(event, fields["actor"]) for event, fields in of_operations(caplog)] == [
        ("lanes flushed by operator", ADA),
        ("lane paused by operator", ADA),
        ("lane resumed by operator", ADA),
    ]


def test_a_stopped_endpoint_is_started_again_by_hand_or_by_a_replay(
    carpool: Carpool, caplog: pytest.LogCaptureFixture
) -> None:
    def stopped() -> list[str | None]:
        with read(carpool.engine) as connection:
            return [one.reason for one in failing_endpoints(connection)]

    endpoints.stop(carpool.engine, HOOK.url, "asked to", actor=ADA)
    assert stopped() == ["asked to"]
    assert endpoints.start(carpool.engine, [HOOK.url, "https://another.example.com"], actor=ADA) == [HOOK.url]
    assert stopped() == []

    endpoints.stop(carpool.engine, HOOK.url, "asked to", actor=ADA)
    replayed = replay.replay(carpool.engine, DeliveryFilter(target=HOOK.url), actor=ADA)

    assert replayed == replay.Replayed(0, [HOOK.url])
    assert stopped() == []
    assert {fields["actor"] for _, fields in of_operations(caplog)} == {ADA}


def test_quarantined_entries_are_put_back_or_dropped(
    carpool: Carpool, producer: Producer, caplog: pytest.LogCaptureFixture
) -> None:
    server: Any = carpool.server

    # Given an entry that can be read since an upgrade, and one that can't
    producer.enqueue(request("a"))
    [(entry_id, fields)] = server.xrange(INBOX)
    server.xdel(INBOX, entry_id)
    good, bad = (
        server.xadd(QUARANTINE, entry).decode()
        for entry in (fields | {b"error": b"too new"}, {ENTRY_FIELD: b"noise", b"error": b"unreadable"})
    )

    # When, Then
    with pytest.raises(EntryUnknown):
        quarantine.drop(server, [good, "1-1"], actor=ADA)
    assert quarantine.retry(server, [good], actor=ADA) == 1
    assert quarantine.drop(server, [bad], actor=ADA) == 1
    assert server.xlen(QUARANTINE) == 0
    carpool.aggregate()
    assert request_states(carpool.engine) == ["batched"]
    assert of_operations(caplog) == [
        ("quarantined entries retried by operator", {"actor": ADA, "count": 1}),
        ("quarantined entries dropped by operator", {"actor": ADA, "count": 1}),
    ]


def test_a_purge_returns_what_was_erased(
    carpool: Carpool, producer: Producer, caplog: pytest.LogCaptureFixture
) -> None:
    producer.enqueue(request("a"))
    carpool.until(lambda: carpool.ended(1))
    progress: list[int] = []

    assert purge.count(carpool.engine, "tests") == 1
    purged = purge.purge(carpool.engine, carpool.server, "tests", settings(), progress.append, actor=ADA)

    assert (purged.requests, purged.gone["params"], purged.gone["answers"], progress) == (1, 1, 1, [1])
    fields = {"actor": ADA, "client": "tests", "requests": 1}
    assert of_operations(caplog) == [("client purged by operator", fields)]
