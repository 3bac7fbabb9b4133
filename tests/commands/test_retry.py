"""`carpool retry`: discarded requests run again and are delivered again, and nothing is paid for twice unsaid."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from tests.fixtures.agents import Carpool, request
from tests.fixtures.command_line import run, succeeded

from carpool import Producer, Webhook
from carpool_worker.app import app as celery
from carpool_worker.database import read, write
from carpool_worker.models import tables
from carpool_worker.pipeline.collection.collector import GONE, MISSING
from carpool_worker.pipeline.delivery import courier
from carpool_worker.policies.budgets import Budget
from carpool_worker.settings import settings
from carpool_worker.simulator import RemoteSimulator, Script
from carpool_worker.states import BatchState
from carpool_worker.store.requests import segments
from carpool_worker.store.requests.answers import load_answers
from carpool_worker.store.requests.endings import discard

pytestmark = pytest.mark.usefixtures("command_line")

TROUBLE = Script(contains="poison", outcome="errored", error_type="api_error")


def given_discarded(carpool: Carpool, producer: Producer, simulator: RemoteSimulator, **options: Any) -> str:
    """A request whose three attempts all met trouble at Anthropic, that is over now; and one that was answered."""
    simulator.script(TROUBLE)
    id_ = producer.enqueue(request("poison"), **options)
    producer.enqueue(request("fine"))
    carpool.until(lambda: carpool.ended(2))
    simulator.clear_scripts()
    assert state_of(carpool, id_) == ("discarded", 3)
    return id_


def state_of(carpool: Carpool, id_: str) -> tuple[str, int]:
    [row] = carpool.rows(f"SELECT state, attempt FROM requests WHERE id = id_of('{id_}')")
    return row.state, row.attempt


def given_lost_answers(carpool: Carpool, producer: Producer) -> list[str]:
    """Two requests whose answers were made and paid for, perhaps, and could not be read."""
    ids = [producer.enqueue(request(text)) for text in "ab"]
    carpool.aggregate()
    with write(carpool.engine) as connection:
        for id_, error in zip(ids, (GONE, MISSING), strict=True):
            [row] = carpool.rows(f"SELECT batch_id FROM requests WHERE id = id_of('{id_}')")
            discard(
                connection,
                row.batch_id,
                [id_],
                error,
                carpool.rows("SELECT max(opened_at) FROM batches")[0][0],
            )
    carpool.change(f"UPDATE batches SET state = '{BatchState.COMPLETED}', finished_at = opened_at")
    return ids


@pytest.fixture
def webhooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Webhooks are signed, and may go to this machine."""
    monkeypatch.setenv("CARPOOL_WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8")
    monkeypatch.setenv("CARPOOL_WEBHOOK_SECRET", "whsec_" + "A" * 32)
    settings.cache_clear()


def test_a_request_that_is_retried_is_answered_and_delivered_again(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, receiver: Any, webhooks: None
) -> None:
    # Given a request that was discarded, and whose callback knows that
    id_ = given_discarded(carpool, producer, simulator, callback=Webhook(receiver.url("/claude")))
    courier.deliver(carpool.engine, celery, settings())

    # When
    asked = run("retry", id_, answer="y\n")
    again = run("retry", id_, "--yes")
    carpool.until(lambda: carpool.ended(2))
    courier.deliver(carpool.engine, celery, settings())

    # Then: it is a new one's first attempt, and the callback was told of both ends
    assert "Retry 1 request, for about $0.0" in asked.output
    assert "1 callback knows of the failure?" in asked.output
    assert asked.output.endswith("1 request will be tried again.\n")
    assert again.exit_code == 1
    assert state_of(carpool, id_) == ("completed", 1)
    bodies = [body for _, body in receiver.posts["/claude"]]
    assert [b"request.discarded" in body for body in bodies] == [True, False]
    assert b"request.completed" in bodies[1]

    # Then a receiver that drops the webhook-ids it has seen lets the second in, and both name the request
    assert [headers["webhook-id"] for headers, _ in receiver.posts["/claude"]] == [id_, f"{id_}-2"]
    assert all(f'"id":"{id_}"'.encode() in body for body in bodies)


def test_each_retry_has_its_own_webhook_id_and_each_try_of_one_the_same(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, receiver: Any, webhooks: None
) -> None:
    # Given a request that fails in each of three lives, and a receiver that refuses the first try of each
    id_ = given_discarded(carpool, producer, simulator, callback=Webhook(receiver.url("/claude")))
    simulator.script(TROUBLE)

    # When
    for life in range(3):
        if life:
            succeeded("retry", id_, "--yes")
            carpool.until(lambda: carpool.ended(2))
        for answer in (500, 200):
            receiver.answer("/claude", answer)
            carpool.change("UPDATE deliveries SET state = 'available' WHERE state = 'retryable'")
            courier.deliver(carpool.engine, celery, settings())

    # Then
    ids = [headers["webhook-id"] for headers, _ in receiver.posts["/claude"]]
    assert ids == [id_, id_, f"{id_}-2", f"{id_}-2", f"{id_}-3", f"{id_}-3"]


def test_it_asks_first_and_wants_to_know_which(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    id_ = given_discarded(carpool, producer, simulator)

    which, refused = run("retry"), run("retry", "--all", answer="n\n")

    assert (which.exit_code, refused.exit_code) == (2, 1)
    assert state_of(carpool, id_) == ("discarded", 3)


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        (["--client", "tests"], True),
        (["--client", "stranger"], False),
        (["--since", "10m"], True),
        (["--since", "2100-01-01"], False),
        (["--all"], True),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_which_ones_are_chosen(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, arguments: list[str], chosen: bool
) -> None:
    id_ = given_discarded(carpool, producer, simulator)

    result = run("retry", *arguments, "--yes")

    assert result.exit_code == (0 if chosen else 1)
    assert state_of(carpool, id_) == (("retryable", 0) if chosen else ("discarded", 3))


def test_what_may_have_been_paid_for_stays_unless_asked_for(carpool: Carpool, producer: Producer) -> None:
    ids = given_lost_answers(carpool, producer)

    refused = run("retry", *ids, "--yes")
    asked = run("retry", *ids, "--even-paid", answer="y\n")

    assert refused.exit_code == 1
    assert "2 requests stay discarded: the answer was lost and may have been paid for" in refused.output
    assert "2 of them may have been paid for already" in asked.output
    assert "an unknown cost of 2" in asked.output
    assert [state_of(carpool, id_) for id_ in ids] == [("retryable", 0)] * 2


def test_an_outcome_or_an_error_that_nobody_knows_counts_as_paid_for(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    id_ = given_discarded(carpool, producer, simulator)
    carpool.change(f"UPDATE requests SET error = NULL WHERE id = id_of('{id_}')")
    assert "may have been paid for" in run("retry", id_, "--yes").output

    carpool.change(f"UPDATE requests SET outcome = 'surprising' WHERE id = id_of('{id_}')")
    assert "may have been paid for" in run("retry", id_, "--yes").output
    assert state_of(carpool, id_) == ("discarded", 3)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE requests SET cancel_requested_at = 5", "canceled by the client"),
        ("DELETE FROM params", "the params are no longer kept"),
        ("UPDATE requests SET position = NULL", "the params are no longer kept"),
        ("UPDATE requests SET finished_at = 5 WHERE state = 'discarded'", "the params are no longer kept"),
        ("UPDATE deliveries SET state = 'delivering'", "the callback is being called"),
    ],
)
def test_what_can_not_run_again_stays_and_the_reason_is_given(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, change: str, reason: str
) -> None:
    id_ = given_discarded(
        carpool, producer, simulator, callback=Webhook("https://billing.example.com/claude")
    )
    carpool.change(change)

    result = run("retry", id_, "--even-paid", "--yes")

    assert result.exit_code == 1
    assert f"1 request stays discarded: {reason}" in result.output
    assert state_of(carpool, id_) == ("discarded", 3)


def test_many_go_back_in_steps(carpool: Carpool, producer: Producer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carpool_worker.operations.retry.STEP", 4)
    producer.enqueue_many([request(str(number)) for number in range(10)])
    carpool.aggregate()
    carpool.change("UPDATE requests SET state = 'discarded', outcome = 'expired', finished_at = enqueued_at")

    assert succeeded("retry", "--all", "--yes") == "10 requests will be tried again.\n"
    assert len(carpool.rows("SELECT id FROM requests WHERE state = 'retryable'")) == 10


def test_the_answer_of_the_end_before_is_erased_and_no_other(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given two requests that failed together, so that their answers are in one segment
    simulator.script(TROUBLE)
    retried, other = producer.enqueue_many([request("poison a"), request("poison b")])
    carpool.until(lambda: carpool.ended(2))
    assert len(carpool.rows("SELECT id FROM answers")) == 1

    # When
    succeeded("retry", retried, "--yes")

    # Then only the other's is left, and the retried one has none until it ends again
    with read(carpool.engine) as connection:
        [(_, bodies)] = segments.bodies(connection, tables.answers, answer_ids(carpool))
        assert sorted(map(bool, bodies)) == [False, True]
        assert load_answers(connection, [retried, other]).keys() == {other}
        assert b"api_error" in bytes(load_answers(connection, [other])[other].error)
    simulator.clear_scripts()
    carpool.until(lambda: carpool.ended(2))
    with read(carpool.engine) as connection:
        assert load_answers(connection, [retried])[retried].state == "completed"


def test_answers_of_which_none_is_left_are_deleted(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    simulator.script(TROUBLE)
    producer.enqueue_many([request("poison a"), request("poison b")])
    carpool.until(lambda: carpool.ended(2))

    succeeded("retry", "--all", "--yes")

    assert answer_ids(carpool) == []


def answer_ids(carpool: Carpool) -> list[int]:
    return [row.id for row in carpool.rows("SELECT id FROM answers")]


def test_a_request_refused_for_its_clients_budget_can_be_retried_and_bypasses_the_budget(
    carpool: Carpool, producer: Producer
) -> None:
    # Given
    carpool.budgets = {"tests": Budget(day=Decimal("0.0000001"))}
    producer.enqueue(request())
    carpool.aggregate()
    assert carpool.rows("SELECT state FROM requests") == [("discarded",)]

    # When
    assert "1 request will be tried again" in succeeded("retry", "--client", "tests", "--yes")

    # Then
    carpool.until(lambda: carpool.ended(1))
    assert carpool.rows("SELECT state, attempt FROM requests") == [("completed", 1)]
