"""The poller: few calls, no answer final by itself, and what was canceled at the console is put right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from tests.fixtures.agents import GIVE_UP_AT_ONCE, Carpool, request
from tests.fixtures.canceling import cancel
from tests.fixtures.queries import answer_bodies, batch_states, request_states

from carpool import Producer, Webhook
from carpool_worker.claude.client import Claude
from carpool_worker.database import now, read, write
from carpool_worker.pipeline.collection import poller
from carpool_worker.pipeline.submission import rescuer
from carpool_worker.policies.polling import PollPolicy
from carpool_worker.simulator import Fault, RemoteSimulator, Script, SimulatorOptions, running
from carpool_worker.store.batches import lane_pauses
from carpool_worker.units import DAY
from carpool_worker.views.lanes import LaneView, active


class Counting(Claude):
    """Counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.lists = self.retrieves = 0

    def list_newest(self, *arguments: Any) -> Any:
        self.lists += 1
        return super().list_newest(*arguments)

    def retrieve(self, *arguments: Any) -> Any:
        self.retrieves += 1
        return super().retrieve(*arguments)


def given_batches_out(carpool: Carpool, producer: Producer, count: int, **options: Any) -> None:
    producer.enqueue_many([request(model=f"claude-haiku-4-5-{n}") for n in range(count)], **options)
    carpool.aggregate()
    carpool.submit()


@pytest.mark.parametrize(("out", "lists", "retrieves"), [(0, 0, 0), (3, 0, 3), (6, 1, 0)])
def test_many_batches_out_take_one_call(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, out: int, lists: int, retrieves: int
) -> None:
    given_batches_out(carpool, producer, out)
    counting = Counting()

    poller.poll(carpool.engine, [counting])
    counting.close()

    assert (counting.lists, counting.retrieves) == (lists, retrieves)
    carpool.until(lambda: set(batch_states(carpool.engine)) <= {"ended", "completed"})


def test_a_404_passes(carpool: Carpool, producer: Producer, simulator: RemoteSimulator) -> None:
    given_batches_out(carpool, producer, 1)
    simulator.arm(Fault(operation="retrieve", kind="error", status=404, times=2))

    for _ in range(2):
        carpool.poll()
        assert batch_states(carpool.engine) == ["in_progress"]

    carpool.until(lambda: carpool.ended(1))


def test_a_batch_that_was_deleted_ends_its_requests_with_a_clear_error_and_no_loop(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given a batch that ended and was deleted at the console before anybody collected it
    given_batches_out(carpool, producer, 1, callback=Webhook("http://127.0.0.1:9/hook"))
    [claude_id] = [row.claude_id for row in carpool.rows("SELECT claude_id FROM batches")]
    with anthropic.Anthropic(max_retries=0) as console:
        carpool.until_polled("ended", 1)
        console.messages.batches.delete(claude_id)
    carpool.change("UPDATE batches SET state = 'in_progress', ended_at = NULL")

    # When it can't be retrieved, Then it is polled on, until nobody could read its results any more
    carpool.change(f"UPDATE batches SET expires_at = {now() - 27 * DAY}")
    carpool.poll()
    assert batch_states(carpool.engine) == ["in_progress"]
    carpool.change(f"UPDATE batches SET expires_at = {now() - 28 * DAY - 60_000}")
    carpool.poll()
    assert batch_states(carpool.engine) == ["ended"]

    # And its results are waited for as well, ever more slowly, before they count as gone
    carpool.collect()
    assert batch_states(carpool.engine) == ["ended"]
    carpool.change("UPDATE batches SET ended_at = 1, due_at = 0")
    carpool.collect()
    assert batch_states(carpool.engine) == ["completed"]
    assert request_states(carpool.engine) == ["discarded"]
    [body] = answer_bodies(carpool.engine).values()
    assert b"deleted or archived before they could be collected" in body
    assert [d.state for d in carpool.rows("SELECT state FROM deliveries")] == ["available"]
    assert simulator.ledger()["ran_twice"] == []


def test_a_workspace_that_cant_be_seen_does_not_hide_the_others(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    given_batches_out(carpool, producer, 4, workspace_id="wrkspc_closed")
    given_batches_out(carpool, producer, 4, workspace_id="wrkspc_open")
    simulator.arm(Fault(operation="list", kind="error", status=403))

    carpool.until_polled("ended", 4)

    assert batch_states(carpool.engine).count("ended") >= 4


def test_what_a_canceled_batch_had_finished_is_kept_and_the_rest_runs_again(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    simulator.script(Script(contains="cut off", outcome="canceled", times=1))
    ids = producer.enqueue_many([request("finished"), request("cut off")])

    carpool.until(lambda: carpool.ended(2))

    rows = {row.id: row for row in carpool.rows("SELECT id, state, attempt FROM requests")}
    assert [(rows[id_].state, rows[id_].attempt) for id_ in ids] == [("completed", 1), ("completed", 2)]
    assert simulator.ledger()["ran_twice"] == []
    assert carpool.rows("SELECT * FROM lane_pauses") == []  # nobody canceled the batch


def test_a_batch_canceled_at_the_console_is_canceling_until_it_ends(
    carpool: Carpool, producer: Producer, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = SimulatorOptions(data=tmp_path / "slow", latency=3_600, cancel_latency=3)
    with running(options) as slow, anthropic.Anthropic(base_url=slow.url, api_key="k") as console:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", slow.url)
        carpool.claude = Claude()
        given_batches_out(carpool, producer, 1)
        [batch] = carpool.rows("SELECT claude_id FROM batches")

        console.messages.batches.cancel(batch.claude_id)
        carpool.poll()
        assert batch_states(carpool.engine) == ["canceling"]
        carpool.until_polled("ended")
        carpool.collect()
        carpool.claude.close()

    [row] = carpool.rows("SELECT state, outcome FROM requests")
    assert (row.state, row.outcome) == ("retryable", "canceled")


@pytest.mark.parametrize("attempt", [1, 3])
def test_what_was_canceled_at_the_console_runs_again_only_once_its_lane_is_resumed(
    carpool: Carpool, producer: Producer, slow: RemoteSimulator, attempt: int
) -> None:
    # Given a batch that somebody stops at Anthropic's console, even at the last attempt of its requests
    given_batches_out(carpool, producer, 1)
    carpool.change(f"UPDATE requests SET attempt = {attempt}")
    stopped_at_the_console(carpool, slow)

    # When all goes on, Then the requests are in a batch that waits, and the pause says for what
    for _ in range(3):
        carpool.forget_waiting()
        carpool.go_round()
    assert sorted(batch_states(carpool.engine)) == ["completed", "sealed"]
    assert request_states(carpool.engine) == ["batched"]
    [lane] = lane_views(carpool)
    [batch] = carpool.rows("SELECT claude_id FROM batches WHERE claude_id IS NOT NULL")
    assert batch.claude_id in str(lane.reason)
    assert (lane.paused, lane.paused_by_operator) == (True, False)

    # When the lane is resumed, Then it runs
    with write(carpool.engine) as connection:
        assert lane_pauses.resume(connection, lane.lane)
    carpool.submit()
    assert sorted(batch_states(carpool.engine)) == ["completed", "in_progress"]
    carpool.poll()
    assert carpool.rows("SELECT * FROM lane_pauses") == []


def test_a_batch_that_was_seen_while_it_was_canceled_pauses_its_lane_once(
    carpool: Carpool, producer: Producer, slow: RemoteSimulator
) -> None:
    given_batches_out(carpool, producer, 1)
    [batch] = carpool.rows("SELECT claude_id, lane FROM batches")
    with anthropic.Anthropic(base_url=slow.url, api_key="k") as console:
        console.messages.batches.cancel(batch.claude_id)
    carpool.poll()
    with write(carpool.engine) as connection:
        assert lane_pauses.resume(connection, batch.lane)

    carpool.until_polled("ended")

    assert carpool.rows("SELECT * FROM lane_pauses") == []


def test_an_operators_own_pause_keeps_its_reason_and_a_probed_one_is_probed_no_longer(
    carpool: Carpool, producer: Producer, slow: RemoteSimulator
) -> None:
    given_batches_out(carpool, producer, 2)
    first, second = (row.lane for row in carpool.rows("SELECT lane FROM batches ORDER BY lane"))
    with write(carpool.engine) as connection:
        lane_pauses.pause_by_operator(connection, first, "mine", 1)
        lane_pauses.pause(connection, second, "402", 1, 1)

    stopped_at_the_console(carpool, slow, 2)

    reasons = {row.lane: row.reason for row in carpool.rows("SELECT * FROM lane_pauses WHERE by_operator")}
    assert reasons[first] == "mine"
    assert "console" in reasons[second]


def lane_views(carpool: Carpool) -> list[LaneView]:
    with read(carpool.engine) as connection:
        return active(connection)


def stopped_at_the_console(carpool: Carpool, slow: RemoteSimulator, count: int = 1) -> None:
    with anthropic.Anthropic(base_url=slow.url, api_key="k") as console:
        for row in carpool.rows("SELECT claude_id FROM batches WHERE claude_id IS NOT NULL"):
            console.messages.batches.cancel(row.claude_id)
    carpool.until_polled("ended", count)


@pytest.fixture
def slow(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, carpool: Carpool) -> Iterator[RemoteSimulator]:
    """A simulator whose batches take an hour, unless they are canceled."""
    options = SimulatorOptions(data=tmp_path / "slow", latency=3_600, cancel_latency=0.1)
    with running(options) as slow:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", slow.url)
        carpool.claude.close()
        carpool.claude = Claude()
        yield slow


def test_a_batch_of_which_nothing_is_wanted_is_canceled_at_anthropic(
    carpool: Carpool, producer: Producer, slow: RemoteSimulator
) -> None:
    # Given a batch in progress, of which first one request is canceled, then the other
    ids = producer.enqueue_many([request("a"), request("b")])
    carpool.aggregate()
    carpool.submit()
    cancel(carpool, producer, ids[0])
    carpool.poll()
    assert batch_states(carpool.engine) == ["in_progress"]
    cancel(carpool, producer, ids[1])

    # When the first cancel call fails
    slow.arm(Fault(operation="cancel", kind="dropped"), Fault(operation="cancel", kind="lost"))
    carpool.poll()
    assert batch_states(carpool.engine) == ["in_progress"]

    # Then it is canceled by the next poll, and what had not run costs nothing
    carpool.until(lambda: carpool.ended(2))
    assert batch_states(carpool.engine) == ["completed"]
    rows = carpool.rows("SELECT state, outcome, cost, attempt FROM requests")
    assert [tuple(row) for row in rows] == [("canceled", "canceled", None, 1)] * 2
    assert slow.ledger()["outcomes"] == {"canceled": 2}


def test_an_adopted_batch_is_not_canceled_at_anthropic_as_it_may_be_a_strangers(
    carpool: Carpool, producer: Producer, slow: RemoteSimulator
) -> None:
    # Given a create whose answer was lost, and a batch of the same size that was found instead
    slow.arm(Fault(operation="create", kind="lost"))
    ids = producer.enqueue_many([request("a"), request("b")])
    carpool.aggregate()
    carpool.submit()
    cancel(carpool, producer, *ids)
    assert len(rescuer.rescue(carpool.engine, [carpool.claude], GIVE_UP_AT_ONCE)) == 1

    # When all requests of our batch are canceled
    carpool.poll()

    # Then that batch is left alone
    assert batch_states(carpool.engine) == ["in_progress"]
    [row] = carpool.rows("SELECT claude_id FROM batches")
    assert carpool.claude.retrieve(row.claude_id, {}).processing_status == "in_progress"


def test_what_took_how_long_is_learned_from_batches_that_ended_by_themselves(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    policy = PollPolicy(3_600.0)
    assert poller.seconds_until_poll(carpool.engine, policy) is None

    # Given a model of which nothing is known, Then the first look comes after a fraction of the interval
    given_batches_out(carpool, producer, 1)
    assert poller.seconds_until_poll(carpool.engine, policy) == pytest.approx(3_600 / 16, abs=20)

    # When its batch has ended, Then the next one of that model is expected as soon as that
    carpool.until_polled("ended")
    given_batches_out(carpool, producer, 1)
    assert carpool.rows("SELECT model, weight FROM durations") == [("claude-haiku-4-5-0", 1.0)]
    assert poller.seconds_until_poll(carpool.engine, policy) == policy.least

    # When one was canceled at the console, Then that teaches nothing
    simulator.script(Script(outcome="canceled", times=1))
    given_batches_out(carpool, producer, 1)
    carpool.until_polled("ended", 3)
    assert sum(row.weight for row in carpool.rows("SELECT weight FROM durations")) < 2.1
