"""Creates whose answer was lost: found again, never sent twice, told apart from other programs' batches."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Event, Thread
from typing import Any

import pytest
import sqlalchemy as sa
from tests.fixtures.agents import GIVE_UP_AT_ONCE, MODEL, SUBMIT_POLICY, Carpool, request
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
from tests.fixtures.queries import batch_ids, batch_states, batch_states_by_id, request_states

from carpool import Producer
from carpool_worker.claude.batch import RemoteBatch
from carpool_worker.claude.client import Claude
from carpool_worker.database import now, write
from carpool_worker.models import tables
from carpool_worker.pipeline.submission import rescuer, submitter
from carpool_worker.policies.in_doubt import DoubtPolicy
from carpool_worker.simulator import Fault, RemoteSimulator, SimulatorOptions, running
from carpool_worker.store.batches import transitions

SEARCH_FOR_AN_HOUR = DoubtPolicy(submit_timeout=3_600, settle_interval=3_600)


def test_nothing_is_sent_again_before_the_settling_time(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    batch_id = given_a_lost_batch(carpool, producer, simulator, NOT_MADE)

    assert rescue(carpool, SEARCH_FOR_AN_HOUR) == []
    assert rescue(carpool, DoubtPolicy(submit_timeout=0, settle_interval=60)) == []
    assert batch_states_by_id(carpool.engine) == {batch_id: "submitting"}

    carpool.until(lambda: rescue(carpool) == [batch_id])
    carpool.until(lambda: carpool.ended(2))
    assert_each_ran_once(simulator, 2)


def test_a_batch_is_adopted_long_before_the_settling_time(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    batch_id = given_a_lost_batch(carpool, producer, simulator)

    assert rescue(carpool, SEARCH_FOR_AN_HOUR) == [batch_id]
    carpool.until(lambda: carpool.ended(2))
    assert_each_ran_once(simulator, 2)


def test_while_the_list_fails_every_doubt_stays(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    batch_id = given_a_lost_batch(carpool, producer, simulator, NOT_MADE)
    simulator.arm(*(Fault(operation="list", kind=kind) for kind in ("error", "dropped", "lost")))

    for _ in range(3):
        assert rescue(carpool) == []

    assert batch_states_by_id(carpool.engine) == {batch_id: "submitting"}


def test_a_cursor_whose_batch_was_deleted_since_does_not_keep_a_doubt_open(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given a lost create, and that the batch which was the newest before it is gone
    batch_id = given_a_lost_batch(carpool, producer, simulator)
    carpool.change("UPDATE batches SET cursor_id = 'msgbatch_deleted'")

    # When, Then
    assert rescue(carpool) == [batch_id]
    carpool.until(lambda: carpool.ended(2))
    assert_each_ran_once(simulator, 2)


def test_two_lost_batches_of_one_size_are_told_apart_by_their_results(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    simulator.arm(LOST, LOST)
    given_doubts(carpool, producer, MODEL, "claude-sonnet-4-5")

    carpool.until(lambda: bool(rescue(carpool)) or carpool.ended(4))
    carpool.until(lambda: carpool.ended(4))

    assert set(request_states(carpool.engine)) == {"completed"}
    assert_each_ran_once(simulator, 4)


def test_of_two_lost_creates_the_one_that_made_nothing_is_sent_again(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    simulator.arm(NOT_MADE, LOST)
    given_doubts(carpool, producer, MODEL, "claude-sonnet-4-5")

    carpool.until(lambda: not rescue(carpool) and carpool.ended(4))

    assert_each_ran_once(simulator, 4)


def test_batches_that_differ_in_their_headers_are_not_taken_for_each_other(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given a create that made nothing, and one of another lane that made its batch, both without an answer
    simulator.arm(NOT_MADE, LOST)
    given_doubts(carpool, producer, MODEL)
    given_doubts(carpool, producer, MODEL, betas=["output-300k-2026-03-24"])

    carpool.until(lambda: not rescue(carpool) and carpool.ended(4))

    assert set(request_states(carpool.engine)) == {"completed"}
    assert_each_ran_once(simulator, 4)


def test_an_ended_batch_of_another_program_is_known_as_a_stranger(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given our lost batch and a stranger's of the same size, both made since
    batch_id = given_a_lost_batch(carpool, producer, simulator)
    stranger = post_as_a_stranger(carpool.claude)

    carpool.until(lambda: batch_id in rescue(carpool))

    assert claude_ids(carpool)[batch_id] not in (None, stranger.id)
    carpool.until(lambda: carpool.ended(2))
    assert_each_ran_once(simulator, 2)


def test_a_stranger_adopted_by_mistake_is_released_and_the_batch_is_sent(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given a create that made nothing, and the only batch since is another program's
    batch_id = given_a_lost_batch(carpool, producer, simulator, NOT_MADE)
    stranger = post_as_a_stranger(carpool.claude)
    assert rescue(carpool) == [batch_id]
    assert claude_ids(carpool) == {batch_id: stranger.id}

    # When its results name none of ours
    carpool.until(lambda: batch_states_by_id(carpool.engine)[batch_id] == "submitting")

    # Then
    assert claude_ids(carpool) == {batch_id: None}
    carpool.until(lambda: not rescue(carpool) and carpool.ended(2))
    assert set(request_states(carpool.engine)) == {"completed"}
    assert_each_ran_once(simulator, 2)


def test_another_of_our_batches_adopted_by_mistake_is_released_and_found_by_its_owner(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given two doubts, of which the first has adopted what is the second's
    simulator.arm(NOT_MADE, LOST)
    first, second = given_doubts(carpool, producer, MODEL, "claude-sonnet-4-5")
    [made] = carpool.claude.list_newest({})
    assert submitter.accept(carpool.engine, first, made, in_doubt_at=now())

    carpool.until(lambda: second in rescue(carpool, SEARCH_FOR_AN_HOUR))

    assert claude_ids(carpool) == {first: None, second: made.id}
    carpool.until(lambda: not rescue(carpool) and carpool.ended(4))
    assert set(request_states(carpool.engine)) == {"completed"}
    assert_each_ran_once(simulator, 4)


def test_while_a_possible_batch_is_in_progress_nothing_is_sent_again(
    carpool: Carpool, producer: Producer, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = SimulatorOptions(data=tmp_path / "slow", latency=3_600, faults=[NOT_MADE, NOT_MADE])
    with running(options) as slow:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", slow.url)
        carpool.claude = Claude()
        # Given two doubts and one batch that could be either's
        given_doubts(carpool, producer, MODEL, "claude-sonnet-4-5")
        post_as_a_stranger(carpool.claude)

        assert rescue(carpool) == []

        assert set(batch_states(carpool.engine)) == {"submitting"}
        carpool.claude.close()


class Posting(Claude):
    """Stops in the middle of a create until it may continue."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived, self.go_on = Event(), Event()

    def create(self, *arguments: Any) -> RemoteBatch:
        self.arrived.set()
        assert self.go_on.wait(20)
        return super().create(*arguments)


def test_a_batch_that_is_being_posted_now_is_left_alone(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given a batch in the middle of its post, and a stranger's of the same size
    producer.enqueue_many([request("a"), request("b")])
    carpool.aggregate()
    [batch_id] = batch_ids(carpool.engine)
    posting = Posting()
    thread = Thread(target=submitter.submit, args=(carpool.engine, posting, batch_id, SUBMIT_POLICY))
    thread.start()
    assert posting.arrived.wait(20)
    stranger = post_as_a_stranger(carpool.claude)

    assert rescue(carpool) == []
    posting.go_on.set()
    thread.join(20)
    posting.close()

    assert claude_ids(carpool)[batch_id] not in (None, stranger.id)
    carpool.until(lambda: carpool.ended(2))
    assert_each_ran_once(simulator, 2)


def test_a_batch_being_posted_counts_as_a_possible_owner(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given a doubt that made nothing, and another batch of its size: made, and its answer is on the way
    doubted = given_a_lost_batch(carpool, producer, simulator, NOT_MADE)
    simulator.arm(LOST)
    _, posted = given_doubts(carpool, producer, "claude-sonnet-4-5")
    with write(carpool.engine) as connection:
        posting = sa.update(tables.batches).where(tables.batches.c.id == posted)
        connection.execute(posting.values(in_doubt_at=None, submitting_at=now()))

    rescue(carpool)

    assert claude_ids(carpool)[doubted] is None
    carpool.until(lambda: not rescue(carpool) and carpool.ended(4))
    assert_each_ran_once(simulator, 4)


class Late(Claude):
    """Lets something happen while the list is on its way."""

    def __init__(self, meanwhile: Any) -> None:
        super().__init__()
        self._meanwhile = meanwhile

    def list_newest(self, *arguments: Any) -> Iterable[RemoteBatch]:  # type: ignore[override]
        listed = list(super().list_newest(*arguments))
        self._meanwhile()
        return listed


def test_a_slow_rescuer_does_not_put_back_what_is_posted_again_already(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given a rescuer that waits for its list, while another sends the batch again and its next post begins
    batch_id = given_a_lost_batch(carpool, producer, simulator, NOT_MADE)

    def another_sends_it_again() -> None:
        with write(carpool.engine) as connection:
            assert transitions.postpone(connection, batch_id, 1, error="its last post made no batch")
        simulator.arm(NOT_MADE)
        carpool.submit()

    late = Late(another_sends_it_again)
    assert rescuer.rescue(carpool.engine, [late], GIVE_UP_AT_ONCE) == []
    late.close()

    assert carpool.rows("SELECT state, submissions FROM batches") == [("submitting", 2)]


def test_rescuing_nothing_asks_nothing(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")

    assert rescuer.rescue(engine, [Claude()], GIVE_UP_AT_ONCE) == []
