"""Trouble that only an operator can fix pauses the lane: one batch at a time probes it, and nothing fails."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from tests.fixtures.agents import Carpool, request
from tests.fixtures.logs import logged
from tests.fixtures.queries import batch_ids, batch_states, request_states

from carpool import Producer
from carpool_worker.claude.client import Claude
from carpool_worker.database import now, read, write
from carpool_worker.pipeline.submission.failures import Submitted
from carpool_worker.simulator import SPEND_LIMIT_REACHED, Fault, RemoteSimulator
from carpool_worker.store.batches import lane_pauses

NO_CREDIT = "Your credit balance is too low to access the Anthropic API."
TROUBLES = {
    "401": Fault(operation="create", kind="error", status=401),
    "402": Fault(operation="create", kind="error", status=402),
    "403": Fault(operation="create", kind="error", status=403),
    "400 of the account": Fault(operation="create", kind="error", status=400, message=NO_CREDIT),
    "spend cap": Fault(operation="create", kind="error", status=429, error_code=SPEND_LIMIT_REACHED),
    "401 before the post": Fault(operation="list", kind="error", status=401),
    "a relay without a list": Fault(operation="list", kind="error", status=404),
    "a relay that lets nobody list": Fault(operation="list", kind="error", status=405),
}


def given_sealed_batches(carpool: Carpool, producer: Producer, count: int) -> list[str]:
    """Batches of one lane, two requests each; returns their ids, oldest first."""
    for _ in range(count):
        producer.enqueue_many([request("a"), request("b")])
        carpool.aggregate()
    return batch_ids(carpool.engine)


def submit_each(carpool: Carpool, *ids: str) -> list[Submitted | None]:
    return [carpool.submit_batch(batch_id) for batch_id in ids]


def pause(carpool: Carpool) -> Any:
    [row] = carpool.rows("SELECT * FROM lane_pauses")
    return row


def probe_is_due(carpool: Carpool) -> None:
    carpool.change("UPDATE lane_pauses SET probe_at = 0")


@pytest.mark.parametrize("fault", TROUBLES.values(), ids=TROUBLES.keys())
def test_the_lane_pauses_nothing_fails_and_the_first_success_lets_the_others_go(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, fault: Fault
) -> None:
    # Given three batches of a lane, and trouble with the account
    ids = given_sealed_batches(carpool, producer, 3)
    simulator.arm(fault)

    # When the oldest is posted, Then the lane pauses for a minute, and all wait
    before = now()
    assert submit_each(carpool, ids[0])[0]
    assert before + 60_000 <= pause(carpool).probe_at <= now() + 60_000
    assert str(fault.status) in pause(carpool).reason
    assert submit_each(carpool, *ids) == [None, None, None]
    assert batch_states(carpool.engine) == ["sealed"] * 3

    # When a probe's time has come and the trouble is over, Then all go, each request at its first attempt
    probe_is_due(carpool)
    carpool.until(lambda: carpool.ended(6))
    assert carpool.rows("SELECT * FROM lane_pauses") == []
    assert {tuple(row) for row in carpool.rows("SELECT state, attempt FROM requests")} == {("completed", 1)}


class Counting(Claude):
    """Counts the posts, and calls `meanwhile` in the middle of each."""

    def __init__(self, meanwhile: Any) -> None:
        super().__init__()
        self._meanwhile = meanwhile
        self.posts = 0

    def create(self, *arguments: Any) -> Any:
        self.posts += 1
        self._meanwhile()
        return super().create(*arguments)


def test_one_probe_at_a_time_asks_and_ever_more_slowly(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    ids = given_sealed_batches(carpool, producer, 3)
    simulator.arm(*[TROUBLES["402"]] * 6)
    submit_each(carpool, ids[0])

    # When the others are tried in the middle of each probe, Then they aren't posted, and the waits double
    others: list[Any] = []
    carpool.claude.close()
    counting = carpool.claude = Counting(lambda: others.extend(submit_each(carpool, ids[1], ids[2])))
    for minutes in (2, 4, 8, 15, 15):
        probe_is_due(carpool)
        before = now()
        assert submit_each(carpool, *ids) == [None, None, None]
        assert before + minutes * 60_000 <= pause(carpool).probe_at <= now() + minutes * 60_000
    assert counting.posts == 5
    assert set(others) == {None}
    assert batch_states(carpool.engine) == ["sealed"] * 3


def test_a_pause_is_reported_once_and_not_with_every_probe(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    ids = given_sealed_batches(carpool, producer, 2)
    simulator.arm(*[TROUBLES["401"]] * 3)

    with caplog.at_level(logging.WARNING, logger="carpool_worker"):
        results = submit_each(carpool, ids[0])
        for _ in range(2):
            probe_is_due(carpool)
            results += submit_each(carpool, ids[0])

    assert [one is not None for one in results] == [True, False, False]
    assert len([event for event, _ in logged(caplog) if event.startswith("lane paused")]) == 1


@pytest.mark.parametrize(
    "answer",
    [
        {"date": "Fri, 15 Jan 2027 08:00:00 GMT", "retry-after": "Fri, 15 Jan 2027 08:10:00 GMT"},
        {"date": "Friday, 15-Jan-27 08:00:00 GMT", "retry-after": "Fri Jan 15 08:10:00 2027"},
    ],
    ids=["as today", "as long ago"],
)
def test_a_429_with_a_date_holds_back_its_batch_until_then_by_the_apis_clock_and_pauses_nothing(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, answer: dict[str, str]
) -> None:
    # Given two batches of a lane, and an API whose clock is not ours
    ids = given_sealed_batches(carpool, producer, 2)
    simulator.arm(Fault(operation="create", kind="error", status=429, headers=answer))

    # When the first is refused, Then it waits for ten minutes, and the second goes meanwhile
    before = now()
    assert submit_each(carpool, ids[0])[0]
    [due_at] = [
        row.due_at for row in carpool.rows(f"SELECT due_at FROM batches WHERE id = id_of('{ids[0]}')")
    ]
    assert before + 600_000 <= due_at <= now() + 600_000
    assert carpool.rows("SELECT * FROM lane_pauses") == []
    carpool.submit()
    assert batch_states(carpool.engine) == ["sealed", "in_progress"]


def test_a_429_that_says_nothing_backs_off_and_pauses_nothing(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    ids = given_sealed_batches(carpool, producer, 2)
    simulator.arm(Fault(operation="create", kind="error", status=429))

    carpool.submit()

    assert batch_states(carpool.engine) == ["sealed", "in_progress"]
    assert carpool.rows("SELECT * FROM lane_pauses") == []
    assert carpool.rows(f"SELECT due_at FROM batches WHERE id = id_of('{ids[0]}')")[0].due_at > now()


def test_another_lane_is_not_affected(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    given_sealed_batches(carpool, producer, 1)
    simulator.arm(TROUBLES["403"])
    carpool.submit()
    producer.enqueue(request("c", "claude-sonnet-4-5"))
    carpool.aggregate()

    carpool.submit()

    assert batch_states(carpool.engine) == ["sealed", "in_progress"]


def test_a_probe_whose_body_is_refused_is_split_at_once_and_its_parts_ask(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    given_sealed_batches(carpool, producer, 2)
    simulator.arm(TROUBLES["401"], Fault(operation="create", kind="error", status=400))
    carpool.submit()
    probe_is_due(carpool)

    carpool.submit()

    assert batch_states(carpool.engine).count("rejected") == 1
    assert pause(carpool).probe_at <= now()
    carpool.until(lambda: carpool.ended(4))
    assert set(request_states(carpool.engine)) == {"completed"}


def test_a_probe_that_meets_an_overload_asks_again_after_its_back_off(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    given_sealed_batches(carpool, producer, 1)
    simulator.arm(TROUBLES["401"], Fault(operation="create", kind="error", status=529))
    carpool.submit()
    probe_is_due(carpool)

    carpool.submit()

    [row] = carpool.rows("SELECT * FROM batches")
    assert row.due_at == pause(carpool).probe_at > now()


def test_a_probe_that_dies_leaves_the_lane_to_another_in_time(carpool: Carpool, producer: Producer) -> None:
    [batch_id] = given_sealed_batches(carpool, producer, 1)
    [lane] = [row.lane for row in carpool.rows("SELECT lane FROM batches")]
    with write(carpool.engine) as connection:
        assert lane_pauses.pause(connection, lane, "401", 1, 1)
        assert not lane_pauses.pause(connection, lane, "401", 1, 1)
        assert lane_pauses.claim_probe(connection, lane, now(), now() + 60_000)
        assert not lane_pauses.claim_probe(connection, lane, now(), now() + 60_000)

    assert submit_each(carpool, batch_id) == [None]
    probe_is_due(carpool)
    assert submit_each(carpool, batch_id)[0]
    assert batch_states(carpool.engine) == ["in_progress"]


def test_a_success_that_was_posted_before_the_trouble_says_nothing_about_it(
    carpool: Carpool, producer: Producer
) -> None:
    # Given a lane that paused while a post of it was under way
    [batch_id] = given_sealed_batches(carpool, producer, 1)
    carpool.change(f"UPDATE batches SET submitting_at = 5 WHERE id = id_of('{batch_id}')")
    [lane] = [row.lane for row in carpool.rows("SELECT lane FROM batches")]
    with write(carpool.engine) as connection:
        lane_pauses.pause(connection, lane, "402", 6, 7)

    with write(carpool.engine) as connection:
        assert lane_pauses.lift(connection, batch_id) is None
    with read(carpool.engine) as connection:
        assert lane in lane_pauses.by_lane(connection)
