"""What a list does not show is believed to be absent only if it shows what must be in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.fixtures.agents import GIVE_UP_AT_ONCE, MODEL, Carpool, request
from tests.fixtures.doubts import (
    NOT_MADE,
    age,
    assert_each_ran_once,
    claude_ids,
    given_a_lost_batch,
    given_doubts,
    post_as_a_stranger,
    rescue,
)
from tests.fixtures.queries import batch_states_by_id

from carpool import Producer
from carpool_worker.claude.batch import RemoteBatch
from carpool_worker.claude.client import Claude
from carpool_worker.simulator import Fault, RemoteSimulator

STUB = Fault(operation="list", kind="stub", times=1_000)
AN_HOUR = replace(GIVE_UP_AT_ONCE, fresh_interval=3_600)


def given_a_batch_of_ours(carpool: Carpool, producer: Producer, count: int = 3) -> str:
    """A batch that Anthropic has taken; returns its id there."""
    producer.enqueue_many([request(f"known {n}") for n in range(count)])
    carpool.aggregate()
    carpool.submit()
    [row] = carpool.rows("SELECT claude_id FROM batches")
    return str(row.claude_id)


class Filtered(Claude):
    """Behind a relay whose list hides some batches."""

    def __init__(self, *hidden: str) -> None:
        super().__init__()
        self.hidden = set(hidden)

    def list_newest(self, *arguments: Any) -> Iterator[RemoteBatch]:
        yield from (one for one in super().list_newest(*arguments) if one.id not in self.hidden)


def given_a_doubt_after(carpool: Carpool, producer: Producer, simulator: RemoteSimulator) -> str:
    simulator.arm(NOT_MADE)
    given_doubts(carpool, producer, MODEL)
    [row] = carpool.rows("SELECT id FROM batches WHERE state = 'submitting'")
    return str(row.id)


def stays_in_doubt(carpool: Carpool, batch_id: str) -> bool:
    """Whether all the time in the world does not end the doubt."""
    for _ in range(3):
        rescue(carpool)
        carpool.change("UPDATE batches SET search_started_at = search_started_at - 90000000")
    return batch_states_by_id(carpool.engine)[batch_id] == "submitting"


def test_an_empty_list_is_not_believed_while_we_have_batches_there(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    known = given_a_batch_of_ours(carpool, producer)
    batch_id = given_a_doubt_after(carpool, producer, simulator)
    simulator.arm(STUB)

    assert stays_in_doubt(carpool, batch_id)

    # And it says why
    [row] = carpool.rows("SELECT last_error FROM batches WHERE state = 'submitting'")
    assert known in row.last_error
    assert "not believed" in row.last_error

    # When the list is a list again, Then it is sent once more
    simulator.disarm()
    carpool.until(lambda: not rescue(carpool) and carpool.ended(5))
    assert_each_ran_once(simulator, 5)


def test_a_list_that_hides_a_batch_that_is_out_is_not_believed(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given two batches of ours, made one after the other, and a list that shows only the first
    given_a_batch_of_ours(carpool, producer)
    batch_id = given_a_doubt_after(carpool, producer, simulator)
    producer.enqueue_many([request(f"later {n}") for n in range(4)])
    carpool.aggregate()
    carpool.submit()
    [row] = carpool.rows("SELECT claude_id FROM batches WHERE request_count = 4")
    carpool.claude = Filtered(row.claude_id)

    assert stays_in_doubt(carpool, batch_id)


def test_a_finished_batch_that_somebody_deleted_is_no_reason_for_disbelief(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given two finished batches, of which the newer was deleted at Anthropic
    given_a_batch_of_ours(carpool, producer)
    carpool.until(lambda: carpool.ended(3))
    producer.enqueue_many([request("b")])
    carpool.until(lambda: carpool.ended(4))
    [row] = carpool.rows("SELECT claude_id FROM batches WHERE request_count = 1")
    carpool.claude._client.messages.batches.delete(row.claude_id)

    batch_id = given_a_doubt_after(carpool, producer, simulator)

    carpool.until(lambda: batch_id in rescue(carpool))
    carpool.until(lambda: carpool.ended(6))
    assert_each_ran_once(simulator, 6)


def test_in_a_fresh_workspace_the_settling_time_is_longer(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    batch_id = given_a_lost_batch(carpool, producer, simulator, NOT_MADE)

    for seconds in (0, 1_800):
        assert rescue(carpool, AN_HOUR) == []
        carpool.change(f"UPDATE batches SET search_started_at = search_started_at - {seconds * 1_000}")
        assert rescue(carpool, AN_HOUR) == []
    carpool.change("UPDATE batches SET search_started_at = search_started_at - 1802000")

    assert rescue(carpool, AN_HOUR) == [batch_id]
    carpool.until(lambda: carpool.ended(2))
    assert_each_ran_once(simulator, 2)


def test_once_a_batch_of_ours_was_seen_it_is_the_usual_one(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    given_a_batch_of_ours(carpool, producer)
    batch_id = given_a_doubt_after(carpool, producer, simulator)

    carpool.until(lambda: batch_id in rescue(carpool, AN_HOUR))


def test_a_batch_that_was_lost_in_a_fresh_workspace_is_adopted_all_the_same(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    batch_id = given_a_lost_batch(carpool, producer, simulator)

    assert rescue(carpool, AN_HOUR) == [batch_id]


def test_strangers_of_the_same_size_made_later_do_not_hold_a_doubt_open(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given a post that made nothing hours ago, and strangers of its size since
    batch_id = given_a_lost_batch(carpool, producer, simulator, NOT_MADE)
    age(carpool)
    strangers = {post_as_a_stranger(carpool.claude).id for _ in range(2)}

    # When more come all the time, Then it is sent again nevertheless
    carpool.until(lambda: batch_id in rescue(carpool))
    carpool.until(lambda: not rescue(carpool) and carpool.ended(2))
    assert claude_ids(carpool)[batch_id] not in {None, *strangers}
    assert_each_ran_once(simulator, 2)


def test_an_old_cursor_with_a_new_look_covers_what_the_last_post_made(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given a batch whose first post was hours ago, and whose last one made a batch
    batch_id = given_a_lost_batch(carpool, producer, simulator)
    carpool.change("UPDATE batches SET cursor_at = cursor_at - 7200000, cursor_id = NULL")

    assert rescue(carpool) == [batch_id]
    carpool.until(lambda: carpool.ended(2))
    assert_each_ran_once(simulator, 2)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(operation="list", kind="page", times=9),
        Fault(operation="list", kind="error", status=404, times=9),
        Fault(operation="list", kind="error", status=405, times=9),
    ],
    ids=["html", "404", "405"],
)
def test_a_list_that_is_none_leaves_the_doubt_and_says_so(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, fault: Fault
) -> None:
    batch_id = given_a_lost_batch(carpool, producer, simulator, NOT_MADE)
    simulator.arm(fault)

    assert stays_in_doubt(carpool, batch_id)
    [row] = carpool.rows("SELECT last_error FROM batches")
    assert "list of batches can't be read" in row.last_error
