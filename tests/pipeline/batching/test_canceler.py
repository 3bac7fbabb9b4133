"""Cancelling: what was not sent costs nothing, what was is paid for truly; in every state, in every race, once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from tests.fixtures.agents import MODEL, NO_PATIENCE, Carpool, request
from tests.fixtures.queries import request_states_by_id
from tests.fixtures.waiting import until

from carpool import Producer, Request, Webhook
from carpool.contract import CANCEL_FIELD, INBOX, QUEUED, Answer, Cancel, Usage, encode_cancel
from carpool_worker import migrations
from carpool_worker.claude.client import Claude
from carpool_worker.coordination.keys import QUARANTINE
from carpool_worker.database import now, open_engine, read
from carpool_worker.money.costs import Tokens, price_of
from carpool_worker.pipeline.batching import aggregator, canceler
from carpool_worker.pipeline.delivery.channels import reply
from carpool_worker.pipeline.inbox.stream import Inbox
from carpool_worker.pipeline.submission import rescuer, submitter
from carpool_worker.policies.limits import Limits, item_bytes
from carpool_worker.simulator import Fault, RemoteSimulator, Script
from carpool_worker.store.requests import cancellations
from carpool_worker.store.requests.answers import load_answers
from carpool_worker.units import DOLLAR

HOOK = Webhook("http://127.0.0.1:9/hook")
LATER = Limits(count=100_000, body_bytes=250_000_000, seconds=3_600.0)


@pytest.fixture
def patient(carpool: Carpool) -> Carpool:
    """Agents that leave batches open."""
    carpool.limits = LATER
    return carpool


@pytest.fixture
def stranger(redis_url: str) -> Iterator[Producer]:
    with Producer(redis_url, client="strangers", allow_http=True) as producer:
        yield producer


def given(carpool: Carpool, producer: Producer, *texts: str) -> list[str]:
    ids = list(producer.enqueue_many([request(text) for text in texts], callback=HOOK))
    carpool.aggregate()
    return ids


def cancel(carpool: Carpool, producer: Producer, *ids: str) -> None:
    producer.cancel(*ids)
    carpool.aggregate()


def states(carpool: Carpool, ids: list[str]) -> list[str]:
    found = request_states_by_id(carpool.engine)
    return [found[id_] for id_ in ids]


def batches(carpool: Carpool) -> list[tuple[str, int]]:
    return [tuple(row) for row in carpool.rows("SELECT state, request_count FROM batches ORDER BY id")]


def answer(carpool: Carpool, request_id: str) -> Answer:
    with read(carpool.engine) as connection:
        return load_answers(connection, [request_id])[request_id]


def deliveries(carpool: Carpool) -> list[str]:
    return sorted(row.request_id for row in carpool.rows("SELECT request_id FROM deliveries"))


def assert_counts_are_exact(carpool: Carpool) -> None:
    for row in carpool.rows("SELECT id, request_count, body_bytes FROM batches WHERE finished_at IS NULL"):
        held = carpool.rows(
            f"SELECT params_bytes FROM requests WHERE batch_id = '{row.id}' AND state = 'batched'"
        )
        assert (row.request_count, row.body_bytes) == (
            len(held),
            sum(item_bytes(one.params_bytes) for one in held),
        )


def assert_the_books_balance(carpool: Carpool, simulator: RemoteSimulator) -> None:
    ledger = simulator.ledger()
    assert ledger["ran_twice"] == []
    [(requests, tokens, cost)] = carpool.rows(
        "SELECT sum(requests), sum(output_tokens), sum(cost) FROM usage"
    )
    assert requests == ledger["billed"]
    assert tokens == sum(one["output_tokens"] for one in ledger["tokens_by_model"].values())
    assert carpool.rows("SELECT sum(output_tokens), sum(cost) FROM requests") == [(tokens, cost)]
    assert carpool.rows("SELECT sum(cost) FROM batches") == [(cost,)]


@pytest.mark.parametrize("limits", [LATER, Limits(count=3, body_bytes=250_000_000, seconds=3_600.0)])
def test_what_was_not_sent_leaves_its_batch_at_no_cost(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, limits: Limits
) -> None:
    # Given three requests in an open batch, or in a sealed one
    carpool.limits = limits
    ids = given(carpool, producer, "a", "b", "c")

    # When
    cancel(carpool, producer, ids[1])

    # Then
    assert states(carpool, ids) == ["batched", "canceled", "batched"]
    assert_counts_are_exact(carpool)
    told = answer(carpool, ids[1])
    assert (told.state, told.outcome, told.usage, told.cost) == ("canceled", "canceled", None, None)
    assert deliveries(carpool) == [ids[1]]
    carpool.limits = Limits(3, 250_000_000, 0)
    carpool.until(lambda: carpool.ended(3))
    assert {entry["custom_id"] for entry in simulator.ledger_entries()} == {ids[0], ids[2]}
    assert_the_books_balance(carpool, simulator)


@pytest.mark.parametrize("count", [2, 100])
def test_a_batch_that_is_canceled_whole_is_never_posted(
    patient: Carpool, producer: Producer, simulator: RemoteSimulator, count: int
) -> None:
    patient.limits = Limits(count, 250_000_000, 3_600)
    ids = given(patient, producer, "a", "b")

    cancel(patient, producer, *ids)
    patient.submit()

    assert batches(patient) == [("completed", 0)]
    assert simulator.ledger()["batches"] == 0
    [later] = given(patient, producer, "c")
    assert states(patient, [*ids, later]) == ["canceled", "canceled", "batched"]


def test_many_are_canceled_in_small_transactions(
    patient: Carpool, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canceler, "CHUNK_REQUESTS", 2)
    ids = given(patient, producer, "a", "b", "c", "d", "e")

    cancel(patient, producer, *ids)

    assert states(patient, ids) == ["canceled"] * 5
    assert batches(patient) == [("completed", 0)]
    assert deliveries(patient) == sorted(ids)


def test_an_answer_that_was_made_is_dropped_and_its_cost_told(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given two requests at Anthropic
    ids = given(carpool, producer, "wanted", "unwanted")
    carpool.submit()

    # When one is canceled before its answer comes
    cancel(carpool, producer, ids[1])
    assert states(carpool, ids) == ["batched", "batched"]
    carpool.until(lambda: carpool.ended(2))

    # Then
    assert states(carpool, ids) == ["completed", "canceled"]
    told = answer(carpool, ids[1])
    assert (told.state, told.outcome) == ("canceled", "canceled")
    assert bytes(told.message) == bytes(told.error) == b"null"
    [entry] = [entry for entry in simulator.ledger_entries() if entry["custom_id"] == ids[1]]
    assert told.usage == Usage(entry["input_tokens"], entry["output_tokens"])
    tokens = Tokens(entry["input_tokens"], entry["output_tokens"])
    price = price_of(tokens, MODEL, datetime.now(UTC).date())
    assert price
    assert Decimal(told.cost or 0) * DOLLAR == price.cost
    assert simulator.ledger()["billed"] == 2
    assert_the_books_balance(carpool, simulator)
    [body] = carpool.rows(f"SELECT body FROM answers WHERE request_id = '{ids[1]}'")
    assert bytes(body.body) == b'{"type":"canceled"}'
    assert deliveries(carpool) == sorted(ids)


@pytest.mark.parametrize("outcome", ["errored", "expired", "canceled"])
def test_what_went_wrong_is_not_tried_again(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, outcome: Any
) -> None:
    simulator.script(Script(outcome=outcome, times=1))
    [request_id] = given(carpool, producer, "a")
    carpool.submit()

    cancel(carpool, producer, request_id)
    carpool.until(lambda: carpool.ended(1))

    assert states(carpool, [request_id]) == ["canceled"]
    assert answer(carpool, request_id).attempts == 1
    assert deliveries(carpool) == [request_id]


def test_what_waits_for_another_try_gets_none(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    simulator.script(Script(outcome="expired", times=1))
    [request_id] = given(carpool, producer, "a")
    carpool.submit()
    carpool.until_polled("ended")
    carpool.collect()
    assert states(carpool, [request_id]) == ["retryable"]

    cancel(carpool, producer, request_id)
    carpool.stage()

    assert states(carpool, [request_id]) == ["canceled"]
    assert carpool.rows("SELECT retry_at FROM requests") == [(None,)]
    assert batches(carpool) == [("completed", 1)]
    assert deliveries(carpool) == [request_id]


def test_a_producer_that_waits_is_told(
    patient: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    [request_id] = given(patient, producer, "a")

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(producer.wait, request_id, 20)
        cancel(patient, producer, request_id)
        until(waiting.done, step=lambda: reply.answer_waits(patient.server, patient.engine))

    told = waiting.result()
    assert (told.state, told.outcome, told.usage, told.cost, told.error) == (
        ("canceled", "canceled", None, None, None)
    )


def test_what_has_ended_stays_as_it_is(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    ids = given(carpool, producer, "a", "b")
    carpool.until(lambda: carpool.ended(2))
    before = carpool.rows("SELECT * FROM requests ORDER BY id")

    for _ in range(2):
        cancel(carpool, producer, *ids)
        producer.cancel_all()
        carpool.aggregate()

    assert carpool.rows("SELECT * FROM requests ORDER BY id") == before
    assert deliveries(carpool) == sorted(ids)


class Meddling(Claude):
    """Lets something happen after the body was spooled and before the intent is committed."""

    def __init__(self, meddle: Any) -> None:
        super().__init__()
        self._meddle = meddle

    def newest_id(self, *arguments: Any) -> Any:
        self._meddle()
        return super().newest_id(*arguments)


def test_a_body_is_not_posted_after_one_of_its_requests_was_canceled(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given a submitter that has spooled two requests
    ids = given(carpool, producer, "a", "b")
    [row] = carpool.rows("SELECT id FROM batches")
    claude = Meddling(lambda: cancel(carpool, producer, ids[0]))

    # When one is canceled before the intent
    assert submitter.submit(carpool.engine, claude, row.id, 60) is None
    claude.close()

    # Then nothing was posted, and the next submitter posts the other alone
    assert batches(carpool) == [("sealed", 1)]
    assert simulator.ledger()["batches"] == 0
    carpool.until(lambda: carpool.ended(2))
    assert [entry["custom_id"] for entry in simulator.ledger_entries()] == [ids[1]]


def given_a_doubt(carpool: Carpool, producer: Producer, simulator: RemoteSimulator, kind: Any) -> list[str]:
    simulator.arm(Fault(operation="create", kind=kind))
    ids = given(carpool, producer, "a", "b")
    carpool.submit()
    assert [state for state, _ in batches(carpool)] == ["submitting"]
    return ids


def test_a_batch_in_doubt_is_sent_again_without_what_was_canceled_meanwhile(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    ids = given_a_doubt(carpool, producer, simulator, "dropped")

    cancel(carpool, producer, ids[0])
    assert batches(carpool) == [("submitting", 2)]
    until(lambda: bool(rescuer.rescue(carpool.engine, carpool.claude, NO_PATIENCE)))
    carpool.submit()  # nobody else had a look at it since

    carpool.until(lambda: carpool.ended(2))

    assert states(carpool, ids) == ["canceled", "completed"]
    assert answer(carpool, ids[0]).cost is None
    assert [entry["custom_id"] for entry in simulator.ledger_entries()] == [ids[1]]


def test_a_batch_in_doubt_is_adopted_though_some_of_it_was_canceled(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    ids = given_a_doubt(carpool, producer, simulator, "lost")

    cancel(carpool, producer, *ids)
    assert len(rescuer.rescue(carpool.engine, carpool.claude, NO_PATIENCE)) == 1
    carpool.until(lambda: carpool.ended(2))

    assert states(carpool, ids) == ["canceled", "canceled"]
    assert simulator.ledger()["billed"] == 2
    assert_the_books_balance(carpool, simulator)


def test_a_refused_batch_is_halved_without_what_was_canceled(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    simulator.arm(Fault(operation="create", kind="error", status=400))
    ids = given(carpool, producer, "a", "b", "c", "d")
    [row] = carpool.rows("SELECT id FROM batches")

    class Slow(Claude):
        def create(self, *arguments: Any) -> Any:
            canceler.mark(carpool.engine, [ids[0], ids[1]])
            return super().create(*arguments)

    claude = Slow()
    submitter.submit(carpool.engine, claude, row.id, 60)
    claude.close()
    assert batches(carpool) == [("rejected", 4), ("sealed", 2), ("sealed", 2)]
    carpool.submit()  # nobody else had a look at it since
    assert batches(carpool)[1:] == [("completed", 0), ("in_progress", 2)]
    carpool.until(lambda: carpool.ended(4))

    assert states(carpool, ids) == ["canceled", "canceled", "completed", "completed"]
    assert {entry["custom_id"] for entry in simulator.ledger_entries()} == {ids[2], ids[3]}


@pytest.mark.parametrize("everything", [False, True])
def test_a_request_that_comes_after_its_cancellation_is_canceled_on_arrival(
    patient: Carpool, producer: Producer, simulator: RemoteSimulator, everything: bool
) -> None:
    # Given an entry that a consumer took and died with
    ids = list(producer.enqueue_many([request("a"), request("b")], callback=HOOK))
    [_] = Inbox(patient.server, 30).chunks()

    # When they are canceled first and taken over afterwards
    producer.cancel_all() if everything else producer.cancel(*ids)
    later = producer.enqueue(request("c"))
    patient.aggregate()
    assert patient.rows("SELECT id FROM requests") == [(later,)]
    aggregator.aggregate(patient.engine, Inbox(patient.server, 0), LATER, lambda _: None)

    # Then they end at once, and what was enqueued after does not
    assert states(patient, [*ids, later]) == ["canceled", "canceled", "batched"]
    assert deliveries(patient) == sorted(ids)
    assert_counts_are_exact(patient)
    assert int(patient.server.get(QUEUED) or 0) == patient.server.xlen(INBOX) == 0


def test_a_wish_and_its_requests_taken_at_the_same_moment_meet(
    patient: Carpool, redis_url: str, simulator: RemoteSimulator
) -> None:
    # Given requests, and the wish to cancel them, in the hands of two aggregators
    with Producer(redis_url, client="tests") as producer:
        for _ in range(10):
            ids = producer.enqueue_many([request(f"{n}") for n in range(20)])
            [chunk] = Inbox(patient.server, 30).chunks()
            wish = Cancel("tests", list(ids), now())

            # When both act at once
            def arrive(chunk: Any = chunk) -> None:
                aggregator.take(patient.engine, chunk.envelopes, LATER)
                canceler.mark_arrived(patient.engine, chunk.envelopes)

            with ThreadPoolExecutor(2) as pool:
                arrival, wished = pool.submit(arrive), pool.submit(canceler.fulfil, patient.engine, wish)
                arrival.result(), wished.result()

            # Then no request slips through between them
            canceler.sweep(patient.engine)
            assert set(states(patient, list(ids))) == {"canceled"}


def test_cancelling_the_same_from_many_sides_at_once_cancels_once(
    patient: Carpool, producer: Producer, stranger: Producer, simulator: RemoteSimulator
) -> None:
    # Given several batches, open and sealed, and requests that still come
    patient.limits = Limits(40, 250_000_000, 3_600)
    texts = [f"{n}" for n in range(100)]
    requests = [
        Request(request(text, model), callback=HOOK) for text in texts for model in (MODEL, f"{MODEL}-b")
    ]
    ids = list(producer.enqueue_many(requests))
    patient.aggregate()
    others = list(stranger.enqueue_many(requests))

    # When threads cancel all of it, in different orders, while an aggregator fills the batches
    def by_id(order: int) -> None:
        canceler.mark(patient.engine, ids[::order])
        canceler.sweep(patient.engine)

    def by_client() -> None:
        canceler.mark_client(patient.engine, "tests", now())
        canceler.sweep(patient.engine)

    jobs = [lambda: by_id(1), lambda: by_id(-1), by_client, patient.aggregate]
    with ThreadPoolExecutor(len(jobs)) as pool:
        for done in [pool.submit(job) for job in jobs]:
            done.result()

    # Then
    assert set(states(patient, ids)) == {"canceled"}
    assert set(states(patient, others)) == {"batched"}
    assert_counts_are_exact(patient)
    assert deliveries(patient) == sorted(ids)
    assert patient.rows("SELECT count(*) FROM answers") == [(200,)]


def test_a_client_cancels_its_own_requests_only(
    patient: Carpool, producer: Producer, stranger: Producer, simulator: RemoteSimulator
) -> None:
    ids = given(patient, producer, "a", "b")

    cancel(patient, stranger, *ids)
    stranger.cancel_all()
    patient.aggregate()

    assert states(patient, ids) == ["batched", "batched"]


def test_all_of_a_client_is_what_it_enqueued_until_then(
    patient: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # When enqueues and cancel_all follow each other without a pause, in one entry after the other
    before = [producer.enqueue(request("a")) for _ in range(5)]
    producer.cancel_all()
    after = [producer.enqueue(request("b")) for _ in range(5)]
    patient.aggregate()

    # Then
    assert states(patient, [*before, *after]) == ["canceled"] * 5 + ["batched"] * 5


def test_what_a_killed_worker_marked_is_canceled_by_the_next(
    patient: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    ids = given(patient, producer, "a", "b")
    canceler.mark(patient.engine, ids[:1])

    patient.aggregate()

    assert states(patient, ids) == ["canceled", "batched"]


def test_the_aggregator_reports_what_was_canceled(
    patient: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    ids = given(patient, producer, "a", "b")
    producer.cancel(*ids)
    reported: list[Any] = []

    aggregator.aggregate(patient.engine, Inbox(patient.server, 30), LATER, reported.append)

    assert sorted(id_ for filled in reported for id_ in filled.canceled) == sorted(ids)
    [(batch_id,)] = patient.rows("SELECT id FROM batches")
    assert [id_ for filled in reported for id_ in filled.dissolved] == [batch_id]


@pytest.mark.parametrize(
    "wish",
    [
        b"\xc1",
        encode_cancel(["tests", ["not an id"], 1]),
        encode_cancel(Cancel("", None, 1)),
        encode_cancel(Cancel("te\0sts", None, 1)),
        encode_cancel(Cancel("tests", None, 2**63)),
    ],
)
def test_a_wish_that_can_not_be_read_is_quarantined(
    patient: Carpool, producer: Producer, wish: bytes
) -> None:
    patient.server.xadd(INBOX, {CANCEL_FIELD: wish})
    [request_id] = given(patient, producer, "a")

    assert states(patient, [request_id]) == ["batched"]
    assert patient.server.xlen(QUARANTINE) == 1
    assert patient.server.xlen(INBOX) == 0


def test_marks_are_found_by_their_index(sqlite_url: str) -> None:
    # Given the statements that run every second, as SQLite plans them
    migrations.upgrade(sqlite_url)
    engine = open_engine(sqlite_url)
    selects: list[tuple[str, Any]] = []

    def keep(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):
            selects.append((statement, parameters))

    with read(engine) as connection:
        sa.event.listen(connection, "before_cursor_execute", keep)
        cancellations.unsent_with_marks(connection)
        cancellations.unwanted(connection)

    # Then none walks through all requests of a batch
    with read(engine) as connection:
        for statement, parameters in list(selects):
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            assert "ix_requests_cancel_requested" in str(plan)
    assert len(selects) == 2
    engine.dispose()
