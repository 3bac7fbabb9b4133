"""Every way in which the answer to a create gets lost ends in one run of each request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.fixtures.agents import MODEL, Carpool, request
from tests.fixtures.clients import Killed, Lagging
from tests.fixtures.doubts import (
    LOST,
    NOT_MADE,
    assert_each_ran_once,
    claude_ids,
    given_a_lost_batch,
    given_doubts,
    post_as_a_stranger,
    rescue,
)
from tests.fixtures.queries import batch_ids, batch_states_by_id, request_states

from carpool import Producer
from carpool_worker.claude.batch import RemoteBatch
from carpool_worker.claude.client import Claude
from carpool_worker.pipeline.submission import submitter
from carpool_worker.policies.in_doubt import DoubtPolicy
from carpool_worker.simulator import Fault, RemoteSimulator, SimulatorOptions, running

OTHER_MODEL = "claude-sonnet-4-5"
WAYS = {
    "a reset before anything was done": Fault(operation="create", kind="dropped"),
    "a reset after it was made": Fault(operation="create", kind="lost"),
    "a 500 that made nothing": Fault(operation="create", kind="error", status=500),
    "a 504 after it was made": Fault(operation="create", kind="error_after", status=504),
    "an answer that comes too late": Fault(operation="create", kind="stalled", seconds=1.5),
    "a 200 cut short": Fault(operation="create", kind="truncated"),
}


class Dying(Claude):
    """Posts, and dies before it can return the answer."""

    def create(self, *arguments: Any) -> RemoteBatch:
        super().create(*arguments)
        raise Killed


def ended(carpool: Carpool, count: int) -> bool:
    rescue(carpool)
    return carpool.ended(count)


@pytest.fixture
def slow(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, carpool: Carpool) -> Iterator[RemoteSimulator]:
    """An API whose batches take two seconds, and the agents' client of it."""
    with running(SimulatorOptions(data=tmp_path / "slow", latency=2.0)) as remote:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", remote.url)
        carpool.claude.close()
        carpool.claude = Claude()
        yield remote
        carpool.claude.close()


@pytest.mark.parametrize("fault", WAYS.values(), ids=WAYS.keys())
def test_whatever_way_the_answer_is_lost_each_request_runs_once(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, fault: Fault
) -> None:
    # Given a post whose answer gets lost
    producer.enqueue_many([request("a"), request("b")])
    carpool.aggregate()
    [batch_id] = batch_ids(carpool.engine)
    simulator.arm(fault)

    # When it was posted, Then it is in doubt
    carpool.submit_batch(batch_id, submit_timeout=0.5)
    assert batch_states_by_id(carpool.engine) == {batch_id: "submitting"}
    [row] = carpool.rows("SELECT last_error FROM batches")
    assert row.last_error.startswith("in doubt")

    # And it ends in one run
    carpool.until(lambda: ended(carpool, 2))
    assert_each_ran_once(simulator, 2)


def test_a_worker_killed_between_the_post_and_the_commit_costs_nothing(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    producer.enqueue_many([request("a"), request("b")])
    carpool.aggregate()
    [batch_id] = batch_ids(carpool.engine)
    dying = Dying()
    with pytest.raises(Killed):
        carpool.submit_batch(batch_id, dying)
    dying.close()
    assert batch_states_by_id(carpool.engine) == {batch_id: "submitting"}

    # When its head start is over, Then it is found, without waiting for a timeout
    carpool.change("UPDATE batches SET submitting_at = submitting_at - 6000")
    assert rescue(carpool, DoubtPolicy(submit_timeout=600, settle_interval=120)) == [batch_id]
    carpool.until(lambda: ended(carpool, 2))
    assert_each_ran_once(simulator, 2)


def test_a_list_that_lags_is_waited_for(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    simulator.arm(LOST)
    carpool.claude.close()
    lagging = carpool.claude = Lagging()
    [batch_id] = given_doubts(carpool, producer, MODEL)

    assert rescue(carpool, DoubtPolicy(submit_timeout=600, settle_interval=120)) == []
    assert batch_states_by_id(carpool.engine) == {batch_id: "submitting"}
    lagging.lags = False
    assert rescue(carpool, DoubtPolicy(submit_timeout=600, settle_interval=120)) == [batch_id]

    carpool.until(lambda: ended(carpool, 2))
    assert_each_ran_once(simulator, 2)


def test_a_batch_that_had_ended_already_when_it_was_found_is_collected(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    simulator.arm(LOST)
    given_doubts(carpool, producer, MODEL)
    carpool.until(lambda: len(simulator.ledger_entries()) == 2)

    assert rescue(carpool)
    carpool.until(lambda: carpool.ended(2))
    assert_each_ran_once(simulator, 2)


def test_ours_is_found_among_strangers_of_the_same_size_and_minute(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    strangers = [post_as_a_stranger(carpool.claude).id]
    batch_id = given_a_lost_batch(carpool, producer, simulator)
    strangers += [post_as_a_stranger(carpool.claude).id for _ in range(2)]

    carpool.until(lambda: bool(rescue(carpool)))

    assert claude_ids(carpool)[batch_id] not in {None, *strangers}
    carpool.until(lambda: ended(carpool, 2))
    assert_each_ran_once(simulator, 2)


def test_a_stranger_that_is_in_progress_keeps_the_doubt_open_and_then_the_batch_is_sent_once(
    carpool: Carpool, producer: Producer, slow: RemoteSimulator
) -> None:
    # Given a create that made nothing, and a stranger of its size in progress, which it adopts
    slow.arm(NOT_MADE)
    [batch_id] = given_doubts(carpool, producer, MODEL)
    stranger = post_as_a_stranger(carpool.claude)
    assert rescue(carpool) == [batch_id]
    assert claude_ids(carpool) == {batch_id: stranger.id}
    assert carpool.rows("SELECT in_doubt_at FROM batches")[0].in_doubt_at

    # When it has ended, Then it is released, and the batch is sent, once
    carpool.until(lambda: ended(carpool, 2))
    assert_each_ran_once(slow, 2)
    assert claude_ids(carpool)[batch_id] != stranger.id
    assert set(request_states(carpool.engine)) == {"completed"}


def test_what_another_of_ours_adopted_by_mistake_is_not_sent_again_while_it_may_be_its_own(
    carpool: Carpool, producer: Producer, slow: RemoteSimulator
) -> None:
    # Given two doubts: the first made nothing, and has adopted what is the second's, still in progress
    slow.arm(NOT_MADE, LOST)
    first, second = given_doubts(carpool, producer, MODEL, OTHER_MODEL)
    [made] = carpool.claude.list_newest({})
    assert submitter.accept(carpool.engine, first, made, in_doubt_at=1)

    # When the second's settling time is over, Then it is not sent again, though the list shows nothing for it
    assert rescue(carpool) == []
    assert batch_states_by_id(carpool.engine) == {first: "in_progress", second: "submitting"}

    # And once its results show whose it is, each request runs once
    carpool.until(lambda: ended(carpool, 4))
    assert claude_ids(carpool)[second] == made.id
    assert_each_ran_once(slow, 4)
    assert set(request_states(carpool.engine)) == {"completed"}
