"""Clients' batches end: canceled, expired, retried, purged, archived, deleted; and their clients are told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from standardwebhooks import Webhook as Verifier
from tests.fixtures.agents import IN_AN_HOUR, Carpool, request
from tests.fixtures.client_batches import (
    CLIENT,
    assert_counts_are_those_of_the_rows,
    counts,
    end,
    found,
    make,
    results,
)
from tests.fixtures.command_line import run, succeeded
from tests.fixtures.deliveries import WEBHOOK_SECRET, deliver

from carpool import InvalidAnswer, Producer
from carpool.webhooks import verify, verify_any, verify_batch
from carpool_worker.exceptions import BatchEnded, BatchInProgress, NoClientBatch, NoResults
from carpool_worker.models import ClientBatch
from carpool_worker.operations import cancel as by_operator
from carpool_worker.operations import client_batches, purge, retry
from carpool_worker.pipeline import pruner
from carpool_worker.policies.client_batches import shown_id, stored_id
from carpool_worker.settings import settings
from carpool_worker.simulator import RemoteSimulator, Script
from carpool_worker.store.requests.discarded import Chance, DiscardedFilter
from carpool_worker.units import DAY

ADA = "ada"


def cancel(carpool: Carpool, batch: ClientBatch) -> ClientBatch:
    return client_batches.cancel(carpool.engine, CLIENT, shown_id(batch.id))


def test_a_batch_that_is_canceled_before_it_is_sent_costs_nothing(
    unhurried: Carpool, simulator: RemoteSimulator
) -> None:
    # Given
    made = make(unhurried, ["one", "two"]).batch

    # When
    canceling = cancel(unhurried, made)

    # Then its requests end with the next run of the aggregator
    assert canceling.cancel_initiated_at
    assert counts(canceling) == {"processing": 2}
    unhurried.aggregate()
    ended = found(unhurried, made)
    assert counts(ended) == {"canceled": 2}
    assert ended.cancel_initiated_at == canceling.cancel_initiated_at
    assert results(unhurried, made) == {"one": {"type": "canceled"}, "two": {"type": "canceled"}}
    assert simulator.ledger_entries() == []
    with pytest.raises(BatchEnded):
        cancel(unhurried, made)


def test_canceling_leaves_others_requests_alone(unhurried: Carpool, producer: Producer) -> None:
    producer.enqueue(request("theirs"))
    unhurried.aggregate()
    made, other = make(unhurried, ["one", "two"]).batch, make(unhurried, ["three"]).batch

    cancel(unhurried, made)
    cancel(unhurried, made)
    unhurried.aggregate()

    assert counts(found(unhurried, made)) == {"canceled": 2}
    assert counts(found(unhurried, other)) == {"processing": 1}
    assert [row.request_count for row in unhurried.rows("SELECT request_count FROM batches")] == [2]
    assert_counts_are_those_of_the_rows(unhurried.engine)


def test_what_is_canceled_at_anthropic_ends_with_its_batch_there(
    carpool: Carpool, simulator: RemoteSimulator
) -> None:
    made = make(carpool, ["one"]).batch
    carpool.aggregate()
    carpool.submit()

    cancel(carpool, made)

    assert counts(end(carpool, made)) == {"canceled": 1}
    assert_counts_are_those_of_the_rows(carpool.engine)


def test_an_operators_cancel_counts_too(unhurried: Carpool) -> None:
    made = make(unhurried, ["one", "two"]).batch
    [first, _] = unhurried.rows("SELECT id FROM requests ORDER BY id")

    by_operator.cancel(unhurried.engine, [first.id], actor=ADA)

    assert counts(found(unhurried, made)) == {"processing": 1, "canceled": 1}


def test_requests_expire_with_their_batch(unhurried: Carpool, simulator: RemoteSimulator) -> None:
    # Given one that was not sent within a day
    made = make(unhurried, ["one", "two"]).batch
    expire(unhurried)

    # When
    unhurried.stage()
    unhurried.aggregate()

    # Then
    ended = found(unhurried, made)
    assert counts(ended) == {"expired": 2}
    assert ended.cancel_initiated_at is None
    assert results(unhurried, made)["one"] == {"type": "expired"}
    assert simulator.ledger_entries() == []


def test_an_expired_request_is_tried_again_within_the_day_of_its_batch(
    carpool: Carpool, simulator: RemoteSimulator
) -> None:
    simulator.script(Script(contains="one", outcome="expired", times=1))
    made = make(carpool, ["one"]).batch

    assert counts(end(carpool, made)) == {"succeeded": 1}


def test_an_answer_that_comes_after_the_day_counts_and_no_other_try_is_made(
    carpool: Carpool, simulator: RemoteSimulator
) -> None:
    # Given two at Anthropic when their batch expires; one of them would be tried again
    simulator.script(Script(contains="two", outcome="errored", error_type="api_error"))
    made = make(carpool, ["one", "two"]).batch
    carpool.aggregate()
    carpool.submit()
    expire(carpool)
    carpool.stage()

    # When / Then
    assert counts(end(carpool, made)) == {"succeeded": 1, "expired": 1}
    assert_counts_are_those_of_the_rows(carpool.engine)


def test_counts_that_an_earlier_version_did_not_move_are_put_right_at_the_expiry(carpool: Carpool) -> None:
    made = make(carpool, ["one"]).batch
    end(carpool, made)
    carpool.change("UPDATE client_batches SET processing = 1, succeeded = 0, ended_at = NULL, ends = 0")
    expire(carpool)

    carpool.stage()

    assert counts(found(carpool, made)) == {"succeeded": 1}
    assert found(carpool, made).ended_at


def test_a_retried_request_opens_its_batch_again(carpool: Carpool, simulator: RemoteSimulator) -> None:
    # Given a batch that ended with a failure
    simulator.script(Script(contains="two", outcome="errored", error_type="invalid_request_error", times=1))
    made = make(carpool, ["one", "two"]).batch
    assert counts(end(carpool, made)) == {"succeeded": 1, "errored": 1}

    # When
    wanted = DiscardedFilter(kept_since=0, client=CLIENT)
    assert retry.retry(carpool.engine, wanted, [Chance.FREE], actor=ADA) == 1

    # Then
    again = found(carpool, made)
    assert (counts(again), again.ended_at) == ({"succeeded": 1, "processing": 1}, None)
    with pytest.raises(NoResults):
        results(carpool, made)
    ended = end(carpool, made)
    assert (counts(ended), ended.ends) == ({"succeeded": 2}, 2)
    assert results(carpool, made)["two"]["type"] == "succeeded"


def test_its_client_is_told_once_that_it_has_ended(carpool: Carpool, receiver: Any) -> None:
    # Given
    callback = json.dumps({"kind": "webhook", "url": receiver.url("/ended")})
    made = make(carpool, ["one", "two"], callback=callback, origin="https://gateway.example.com").batch
    assert deliver(carpool.engine) == 0

    # When
    ended = end(carpool, made)
    assert deliver(carpool.engine) + deliver(carpool.engine) == 1

    # Then
    [(headers, body)] = receiver.posts["/ended"]
    told = Verifier(WEBHOOK_SECRET).verify(body, headers)
    shown = shown_id(made.id)
    assert (told["type"], told["data"]["id"]) == ("batch.ended", shown)
    assert {name.lower(): value for name, value in headers.items()}["webhook-id"] == shown
    assert told["data"]["request_counts"]["succeeded"] == 2
    assert told["data"]["results_url"] == f"https://gateway.example.com/v1/messages/batches/{shown}/results"
    assert float(told["data"]["cost"]) == float(ended.cost) > 0
    batch = verify_batch(body, headers, WEBHOOK_SECRET)
    assert (batch.id, batch.request_counts.succeeded, batch.cost) == (shown, 2, ended.cost)
    assert verify_any(body, headers, WEBHOOK_SECRET) == batch
    assert batch.results_url
    assert batch.created_at < batch.ended_at < batch.expires_at
    with pytest.raises(InvalidAnswer, match=r"batch\.ended, which verify_batch"):
        verify(body, headers, WEBHOOK_SECRET)


def test_the_end_of_a_batch_that_was_given_up_is_replayed_by_the_id_of_the_batch(
    carpool: Carpool, receiver: Any, command_line: None
) -> None:
    # Given the ends of two batches, which nobody took
    receiver.answer("/ended", 500)
    callback = json.dumps({"kind": "webhook", "url": receiver.url("/ended")})
    made, other = (make(carpool, [text], callback=callback).batch for text in ("one", "two"))
    end(carpool, made)
    end(carpool, other)
    deliver(carpool.engine, webhook_schedule=[])
    assert carpool.rows("SELECT count(*) FROM deliveries WHERE discarded_at IS NOT NULL") == [(2,)]
    receiver.answer("/ended", 200)

    # When
    said = succeeded("deliveries", "replay", shown_id(made.id), "--yes")

    # Then
    assert said == "1 delivery replayed.\n"
    assert deliver(carpool.engine) == 1
    headers, body = receiver.posts["/ended"][-1]
    assert verify_batch(body, headers, WEBHOOK_SECRET).id == shown_id(made.id)
    assert "1 delivery replayed" not in succeeded("deliveries", "replay", shown_id(made.id), "--yes")
    assert (
        "there is no batch msgbatch_01nonsense" in run("deliveries", "replay", "msgbatch_01nonsense").output
    )
    assert "not both" in run("deliveries", "replay", shown_id(made.id), "0" * 32).output


def test_a_receiver_that_is_down_is_told_later(carpool: Carpool, receiver: Any) -> None:
    receiver.answer("/ended", 503)
    callback = json.dumps({"kind": "webhook", "url": receiver.url("/ended")})
    made = make(carpool, ["one"], callback=callback).batch
    end(carpool, made)
    deliver(carpool.engine, webhook_schedule=[100.0])
    [tried] = carpool.rows("SELECT request_id, detail, status FROM delivery_attempts")
    assert (tried.request_id, tried.status) == (made.id, 503)
    receiver.answer("/ended", 200)

    carpool.change("UPDATE deliveries SET state = 'available', due_at = 0 WHERE state = 'retryable'")
    assert deliver(carpool.engine) == 1


def test_a_purge_of_its_client_leaves_its_counts(
    carpool: Carpool, command_line: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARPOOL_CLAIM_INTERVAL", "0.5")
    ended, waiting = make(carpool, ["one"]).batch, None
    end(carpool, ended)
    carpool.limits = IN_AN_HOUR
    waiting = make(carpool, ["two"], idempotency_key="say-nothing").batch

    purge.purge(carpool.engine, carpool.server, CLIENT, settings(), actor=ADA)

    assert counts(found(carpool, ended)) == {"succeeded": 1}
    assert counts(found(carpool, waiting)) == {"canceled": 1}
    assert carpool.rows("SELECT digest, idempotency_key FROM client_batches") == [(b"", None)] * 2
    for one in (ended, waiting):
        assert found(carpool, one).archived_at
        with pytest.raises(NoResults):
            results(carpool, one)
    assert_counts_are_those_of_the_rows(carpool.engine)


def test_a_batch_is_archived_when_its_answers_may_go(carpool: Carpool) -> None:
    made, young = make(carpool, ["one"]).batch, make(carpool, ["two"]).batch
    end(carpool, made), end(carpool, young)
    carpool.change(
        f"UPDATE client_batches SET created_at = created_at - {30 * DAY} WHERE id = id_of('{made.id}')"
    )

    pruner.prune(carpool.engine, 7, 29)

    assert found(carpool, made).archived_at
    with pytest.raises(NoResults):
        results(carpool, made)
    assert results(carpool, young).keys() == {"two"}


def test_only_an_ended_batch_is_deleted(carpool: Carpool) -> None:
    made = make(carpool, ["one"]).batch
    with pytest.raises(BatchInProgress):
        client_batches.delete(carpool.engine, CLIENT, shown_id(made.id))
    end(carpool, made)

    client_batches.delete(carpool.engine, CLIENT, shown_id(made.id))

    with pytest.raises(NoClientBatch):
        client_batches.retrieve(carpool.engine, CLIENT, shown_id(made.id))
    with pytest.raises(NoClientBatch):
        client_batches.delete(carpool.engine, CLIENT, shown_id(made.id))
    assert carpool.rows("SELECT state FROM requests") == [("completed",)]


def test_another_clients_batch_is_none(carpool: Carpool) -> None:
    shown = shown_id(make(carpool, ["one"], client="theirs").batch.id)

    for act in (
        client_batches.retrieve,
        client_batches.cancel,
        client_batches.delete,
        client_batches.plan_results,
    ):
        with pytest.raises(NoClientBatch):
            act(carpool.engine, CLIENT, shown)
    with pytest.raises(NoClientBatch):
        client_batches.page(carpool.engine, CLIENT, 10, after_id=shown)
    assert client_batches.page(carpool.engine, CLIENT, 10) == ([], False)


def test_both_cursors_lead_through_a_clients_batches(unhurried: Carpool) -> None:
    made = [shown_id(make(unhurried, [f"number-{number}"]).batch.id) for number in range(5)][::-1]
    make(unhurried, ["theirs"], client="other")

    def page(limit: int, **cursors: str) -> tuple[list[int], bool]:
        some, has_more = client_batches.page(unhurried.engine, CLIENT, limit, **cursors)
        return [made.index(shown_id(one.id)) for one in some], has_more

    assert page(20) == ([0, 1, 2, 3, 4], False)
    assert page(2) == ([0, 1], True)
    assert page(2, after_id=made[1]) == ([2, 3], True)
    assert page(2, after_id=made[2]) == ([3, 4], False)
    assert page(2, before_id=made[4]) == ([2, 3], True)
    assert page(2, before_id=made[2]) == ([0, 1], False)
    assert page(2, after_id=made[0], before_id=made[4]) == ([1, 2], True)


def test_ids_are_as_the_apis_and_sort_by_time(unhurried: Carpool) -> None:
    ids = [make(unhurried, [f"number-{number}"]).batch.id for number in range(3)]

    shown = [shown_id(one) for one in ids]

    assert sorted(shown) == shown
    assert [stored_id(one) for one in shown] == ids
    assert {len(one) for one in shown} == {len("msgbatch_01") + 22}
    for other in (
        "msgbatch_01",
        shown[0][:-1],
        shown[0] + "0",
        "msgbatch_01" + "z" * 22,
        "x",
        shown[0][:-1] + "-",
    ):
        assert stored_id(other) is None


def expire(carpool: Carpool) -> None:
    """Let a day go by."""
    carpool.change(
        f"UPDATE client_batches SET expires_at = expires_at - {DAY}, created_at = created_at - {DAY}"
    )
    carpool.change(f"UPDATE requests SET deadline = deadline - {DAY}")
