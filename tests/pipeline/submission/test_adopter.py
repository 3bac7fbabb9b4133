"""What a lost batch ran, and what is still to be posted by the tables, is collected there and not run again."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest
import uuid_utils
from tests.fixtures.agents import COLLECT_POLICY, Carpool, request
from tests.fixtures.clients import Edited
from tests.fixtures.doubts import post, request_ids
from tests.fixtures.queries import batch_ids

from carpool import Producer
from carpool_worker.database import now, read
from carpool_worker.pipeline.batching import canceler
from carpool_worker.pipeline.collection import collector
from carpool_worker.pipeline.submission import adopter, audit
from carpool_worker.pipeline.submission.audit import Audit, ForeignBatch, Whose
from carpool_worker.policies.budgets import Budget
from carpool_worker.simulator import Fault, RemoteSimulator, Script
from carpool_worker.store.batches import unowned
from carpool_worker.store.requests import places
from carpool_worker.units import HOUR, Milliseconds


def audited(carpool: Carpool) -> Audit:
    return audit.audit(carpool.engine, [carpool.claude], Milliseconds(now() - HOUR))


def sizes(carpool: Carpool) -> dict[str, tuple[str, int]]:
    rows = carpool.rows("SELECT id, state, request_count FROM batches ORDER BY id")
    return {row.id: (row.state, row.request_count) for row in rows}


def billed(simulator: RemoteSimulator) -> Counter[str]:
    entries = simulator.ledger_entries()
    return Counter(one["custom_id"] for one in entries if one["outcome"] == "succeeded")


@pytest.fixture
def batch_id(carpool: Carpool, producer: Producer) -> str:
    """A sealed batch of three requests."""
    producer.enqueue_many([request("a"), request("b"), request("c")])
    carpool.aggregate()
    return batch_ids(carpool.engine)[0]


@pytest.mark.parametrize("others", [0, 2], ids=["as many", "others besides"])
@pytest.mark.parametrize("known", [3, 2, 1])
def test_what_a_lost_batch_ran_is_collected_and_not_run_again(
    carpool: Carpool, simulator: RemoteSimulator, batch_id: str, known: int, others: int
) -> None:
    # Given a database restored from before some requests of a batch were posted, perhaps with others
    ids = request_ids(carpool)
    lost = post(carpool, [*ids[:known], *(uuid_utils.uuid7().hex for _ in range(others))])

    # When
    found = audited(carpool)

    # Then it is a batch of ours, with what it ran and the tables know
    [adopted] = [id_ for id_ in sizes(carpool) if id_ != batch_id]
    assert found.findings == [ForeignBatch(Whose.ADOPTED, lost.id, adopted, known)]
    assert found.is_clean
    assert sizes(carpool) == {
        batch_id: ("completed" if known == 3 else "sealed", 3 - known),
        adopted: ("ended", known),
    }

    # When all goes on, Then each request ran once
    carpool.until(lambda: carpool.ended(3))
    assert {id_: count for id_, count in billed(simulator).items() if id_ in ids} == dict.fromkeys(ids, 1)
    assert [row.state for row in carpool.rows("SELECT state FROM requests")] == ["completed"] * 3
    assert audited(carpool).counts[Whose.TWICE] == 0


@pytest.mark.parametrize("times", [1, 2], ids=["once", "until the next audit"])
def test_results_that_a_relay_cut_between_lines_let_nothing_be_posted_again(
    carpool: Carpool, simulator: RemoteSimulator, batch_id: str, times: int
) -> None:
    ids = request_ids(carpool)
    lost = post(carpool, ids)
    simulator.arm(Fault(operation="results", kind="rewritten", form="cut_cleanly", times=times))

    found = audited(carpool)
    if times == 2:
        assert [(one.verdict, one.claude_id) for one in found.findings] == [(Whose.UNREAD, lost.id)]
        assert "lack 1 of its 3 requests" in str(found.findings[0].why)
        found = audited(carpool)

    assert [(one.verdict, one.answered) for one in found.findings] == [(Whose.ADOPTED, 3)]
    carpool.until(lambda: carpool.ended(3))
    assert billed(simulator) == dict.fromkeys(ids, 1)


def test_its_results_are_whole_only_with_the_lines_of_the_others_besides(
    carpool: Carpool, batch_id: str
) -> None:
    # Given an adopted batch with requests that no table knows
    ids = request_ids(carpool)
    lost = post(carpool, [*ids, *(uuid_utils.uuid7().hex for _ in range(2))])
    audited(carpool)
    [adopted] = [row.id for row in carpool.rows(f"SELECT id FROM batches WHERE claude_id = '{lost.id}'")]
    cut = Edited(lambda lines: [line for line in lines if ids[0].encode() not in line])

    # When its results lack a line, however often they are read, Then nobody has lost an answer
    for _ in range(3):
        assert not collector.collect(carpool.engine, cut, adopted, COLLECT_POLICY, carpool.announce)
        carpool.forget_waiting()
    [row] = carpool.rows(f"SELECT state, last_error FROM batches WHERE claude_id = '{lost.id}'")
    assert (row.state, row.last_error) == ("ended", "4 lines for 5 requests")
    assert carpool.ended(2)

    # And it is taken when it comes
    assert collector.collect(carpool.engine, carpool.claude, adopted, COLLECT_POLICY, carpool.announce)
    assert [row.state for row in carpool.rows("SELECT state FROM requests")] == ["completed"] * 3


@pytest.mark.parametrize("retried", [False, True], ids=["batched", "about to be tried again"])
def test_the_tries_that_several_lost_batches_made_are_taken_one_after_the_other(
    carpool: Carpool, simulator: RemoteSimulator, batch_id: str, retried: bool
) -> None:
    # Given a batch in which two of three requests failed, lost or known, and a lost one that ran them again
    ids = request_ids(carpool)
    simulator.script(*(Script(custom_id=one, outcome="errored", times=1) for one in ids[1:]))
    if retried:
        carpool.submit_batch(batch_id)
        carpool.until_polled("ended")
        carpool.collect()
    else:
        post(carpool, ids)
    second = post(carpool, ids[1:])

    # When the audit runs until it finds nothing more
    found = [audited(carpool)]
    while found[-1].counts[Whose.ADOPTED] + found[-1].counts[Whose.UNREAD]:
        carpool.collect()
        found.append(audited(carpool))
    carpool.until(lambda: carpool.ended(3))

    # Then each answer was taken from where it is
    assert found[0].findings[0].claude_id == second.id
    assert found[0].findings[0].verdict is Whose.ADOPTED
    assert [row.state for row in carpool.rows("SELECT state FROM requests")] == ["completed"] * 3
    assert billed(simulator) == dict.fromkeys(ids, 1)


@pytest.mark.parametrize("has_another", [False, True], ids=["alone", "and one that waits"])
def test_what_a_batch_of_ours_runs_too_is_decided_on_once_that_is_collected(
    carpool: Carpool, simulator: RemoteSimulator, batch_id: str, producer: Producer, has_another: bool
) -> None:
    # Given a request that fails, by the tables at Anthropic, and a lost batch that ran its next try
    ids = request_ids(carpool)
    simulator.script(Script(custom_id=ids[0], outcome="errored", times=1))
    carpool.submit_batch(batch_id)
    if has_another:
        ids.append(producer.enqueue(request("d")))
        carpool.aggregate()
    carpool.until_polled("ended")
    lost = post(carpool, [ids[0], *ids[3:]])

    # When, Then
    [found] = audited(carpool).findings
    assert (found.verdict, found.batch_id) == (Whose.UNREAD, batch_id)
    assert carpool.rows("SELECT 1 FROM unowned_batches") == []

    # When that has been collected
    carpool.collect()

    # Then
    [found] = audited(carpool).findings
    assert (found.verdict, found.claude_id, found.answered) == (Whose.ADOPTED, lost.id, 1 + has_another)
    carpool.until(lambda: carpool.ended(len(ids)))
    assert billed(simulator) == dict.fromkeys(ids, 1)


def test_what_was_posted_or_canceled_meanwhile_stays_as_it_is(carpool: Carpool, batch_id: str) -> None:
    # Given
    ids = request_ids(carpool)
    lost = post(carpool, ids)
    outcomes = dict.fromkeys(ids, "succeeded")
    canceler.request_cancellation(carpool.engine, ids[:1])
    canceler.sweep(carpool.engine)

    # When
    first = adopter.adopt(carpool.engine, carpool.claude, lost, {}, outcomes)
    second = adopter.adopt(carpool.engine, carpool.claude, lost, {}, outcomes)

    # Then
    assert first
    assert (first.requests, second) == (2, None)
    assert sizes(carpool) == {batch_id: ("completed", 0), first.batch: ("ended", 2)}


def test_requests_that_never_were_in_a_batch_are_not_run_again(
    carpool: Carpool, simulator: RemoteSimulator, producer: Producer
) -> None:
    # Given requests over their client's budget, by the restored tables, and a lost batch that ran them
    carpool.budgets = {"default": Budget(day=Decimal("0.001"))}
    producer.enqueue_many([request(str(n)) for n in range(12)])
    carpool.aggregate()
    held = [row.id for row in carpool.rows("SELECT id FROM requests WHERE held_at IS NOT NULL")]
    assert 0 < len(held) < 12
    lost = post(carpool, held)

    # When
    found = audited(carpool)

    # Then
    [adopted] = [id_ for id_, standing in sizes(carpool).items() if standing == ("ended", len(held))]
    assert found.findings == [ForeignBatch(Whose.ADOPTED, lost.id, adopted, len(held))]

    # When there is money again, Then they are not posted
    carpool.budgets = {}
    carpool.until(lambda: carpool.ended(12))
    assert set(billed(simulator).values()) == {1}
    assert len(billed(simulator)) == 12


def test_nothing_is_adopted_while_a_request_is_put_into_another_batch(
    carpool: Carpool, simulator: RemoteSimulator, batch_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two requests that are about to be tried again, a lost batch that ran this try, and a stager that has one
    ids = request_ids(carpool)
    simulator.script(*(Script(custom_id=one, outcome="errored", times=1) for one in ids[1:]))
    carpool.submit_batch(batch_id)
    carpool.until_polled("ended")
    carpool.collect()
    lost = post(carpool, ids[1:])
    with monkeypatch.context() as locked:
        locked.setattr(adopter, "lock_retryable", lambda *_: places.lock_retryable(*_)[1:])

        # When, Then it is looked at again
        [found] = audited(carpool).findings
        assert (found.verdict, found.claude_id, found.why) == (
            Whose.UNREAD,
            lost.id,
            "its requests are on the move",
        )
    assert carpool.rows("SELECT 1 FROM unowned_batches") == []
    [found] = audited(carpool).findings
    assert (found.verdict, found.answered) == (Whose.ADOPTED, 2)
    carpool.until(lambda: carpool.ended(3))
    assert billed(simulator) == dict.fromkeys(ids, 1)


def test_what_another_process_has_adopted_stays_its(carpool: Carpool, batch_id: str) -> None:
    # Given
    ids = request_ids(carpool)
    lost = post(carpool, ids)
    other = adopter.adopt(carpool.engine, carpool.claude, lost, {}, dict.fromkeys(ids[:1], "succeeded"))

    # When
    mine = adopter.adopt(carpool.engine, carpool.claude, lost, {}, dict.fromkeys(ids[1:], "succeeded"))

    # Then nothing of it has happened
    assert other
    assert mine is None
    assert sizes(carpool) == {batch_id: ("sealed", 2), other.batch: ("ended", 1)}


def test_rows_that_were_lost_make_the_posts_that_follow_careful(carpool: Carpool, batch_id: str) -> None:
    post(carpool, request_ids(carpool))
    with read(carpool.engine) as connection:
        assert not unowned.has_lost_rows(connection, 0)

    audited(carpool)

    with read(carpool.engine) as connection:
        assert unowned.has_lost_rows(connection, 0)
