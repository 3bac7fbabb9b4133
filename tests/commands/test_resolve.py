"""`carpool batches resolve`: the operator's word on a batch in doubt."""

from __future__ import annotations

import pytest
from tests.fixtures.agents import Carpool, request
from tests.fixtures.command_line import run, succeeded
from tests.fixtures.doubts import (
    NOT_MADE,
    assert_each_ran_once,
    claude_ids,
    given_a_lost_batch,
    post_as_a_stranger,
)
from tests.fixtures.queries import batch_ids, batch_states_by_id

from carpool import Producer
from carpool_worker.simulator import RemoteSimulator

pytestmark = pytest.mark.usefixtures("command_line")


def test_a_batch_that_was_made_is_adopted(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    batch_id = given_a_lost_batch(carpool, producer, simulator)
    [made] = carpool.claude.list_newest({})

    said = succeeded("batches", "resolve", batch_id, "--made", made.id)

    assert said == f"Batch {batch_id} is {made.id}: its results are taken.\n"
    carpool.until(lambda: carpool.ended(2))
    assert claude_ids(carpool) == {batch_id: made.id}
    assert_each_ran_once(simulator, 2)


def test_a_batch_of_another_size_or_of_another_is_refused(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    producer.enqueue_many([request("a"), request("b")])
    carpool.aggregate()
    carpool.submit()
    [ours] = carpool.rows("SELECT claude_id FROM batches")
    batch_id = given_a_lost_batch(carpool, producer, simulator, NOT_MADE)
    larger = post_as_a_stranger(carpool.claude, count=3)

    assert (
        f"{larger.id} has 3 requests, not 2"
        in run("batches", "resolve", batch_id, "--made", larger.id).output
    )
    assert (
        f"{ours.claude_id} is the batch of another"
        in run("batches", "resolve", batch_id, "--made", ours.claude_id).output
    )
    assert batch_states_by_id(carpool.engine)[batch_id] == "submitting"


def test_a_batch_that_was_not_made_is_posted_again_whatever_else_is_in_the_list(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    batch_id = given_a_lost_batch(carpool, producer, simulator, NOT_MADE)
    post_as_a_stranger(carpool.claude)

    assert succeeded("batches", "resolve", batch_id, "--not-made", "--yes") == (
        f"Batch {batch_id} is posted again.\n"
    )

    carpool.submit()
    assert batch_states_by_id(carpool.engine) == {batch_id: "in_progress"}
    carpool.until(lambda: carpool.ended(2))
    assert_each_ran_once(simulator, 2)


@pytest.mark.parametrize("options", [(), ("--not-made", "--made", "msgbatch_x")])
def test_it_takes_one_word(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, options: tuple[str, ...]
) -> None:
    batch_id = given_a_lost_batch(carpool, producer, simulator, NOT_MADE)

    ran = run("batches", "resolve", batch_id, *options)

    assert ran.exit_code == 2
    assert batch_states_by_id(carpool.engine) == {batch_id: "submitting"}


def test_what_is_not_in_doubt_or_still_being_posted_is_left_alone(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    producer.enqueue_many([request("a")])
    carpool.aggregate()
    [batch_id] = batch_ids(carpool.engine)

    assert "is sealed, not in doubt" in run("batches", "resolve", batch_id, "--not-made", "--yes").output

    simulator.arm(NOT_MADE)
    carpool.submit()
    carpool.change("UPDATE batches SET in_doubt_at = NULL")
    assert "may be being posted" in run("batches", "resolve", batch_id, "--not-made", "--yes").output
    assert batch_states_by_id(carpool.engine) == {batch_id: "submitting"}
