"""Clocks that jump or differ make no second bill and lose no answer: what costs money goes by the API's clock alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest
from tests.fixtures.agents import Carpool, request
from tests.fixtures.clients import Lagging
from tests.fixtures.queries import batch_ids, batch_states, batch_states_by_id, load_batch, request_states

from carpool import Producer
from carpool_worker.claude.client import Claude
from carpool_worker.database import now, write
from carpool_worker.pipeline.collection import collector, poller
from carpool_worker.pipeline.submission import rescuer
from carpool_worker.policies.in_doubt import DoubtPolicy
from carpool_worker.simulator import Fault, RemoteSimulator
from carpool_worker.store.batches import in_doubt

LOST = Fault(operation="create", kind="lost")
NOT_MADE = Fault(operation="create", kind="dropped")
DOUBT_POLICY = DoubtPolicy(submit_timeout=600, settle_interval=120, fresh_interval=120)
DAY = 24 * 3_600_000
"""Milliseconds."""

OUR_TIMES = ("submitting_at", "in_doubt_at")


class Dateless(Claude):
    """A client of an API whose answers have no Date."""

    def _learn(self, response: httpx2.Response) -> None:
        response.headers.pop("date", None)
        super()._learn(response)


@contextmanager
def played_by(carpool: Carpool, other: Claude) -> Iterator[None]:
    """Give the agents another client for a while."""
    usual, carpool.claude = carpool.claude, other
    yield
    carpool.claude = usual
    other.close()


def given_doubt(carpool: Carpool, producer: Producer) -> str:
    """Return the id of a batch of two whose post had no answer; the fault is armed already."""
    producer.enqueue_many([request("a"), request("b")])
    carpool.aggregate()
    carpool.submit()
    return str(carpool.rows("SELECT id FROM batches WHERE state = 'submitting' ORDER BY id DESC")[0].id)


def jump_ahead(carpool: Carpool) -> None:
    """Set our clock a day ahead: all that was written by it is a day old."""
    carpool.change("UPDATE batches SET " + ", ".join(f"{name} = {name} - {DAY}" for name in OUR_TIMES))


def let_it_settle(carpool: Carpool, seconds: float) -> None:
    """Let so much time pass by the API's clock."""
    carpool.change(f"UPDATE batches SET search_started_at = search_started_at - {int(seconds * 1000)}")


def rescue(carpool: Carpool) -> list[str]:
    return rescuer.rescue(carpool.engine, [carpool.claude], DOUBT_POLICY)


@pytest.mark.parametrize(
    "on_record", [True, False], ids=["doubt on record", "submitter dead or still posting"]
)
def test_our_clock_that_jumps_ahead_sends_no_batch_again(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, on_record: bool
) -> None:
    # Given a lost create that the list does not show yet, and a local clock that jumps ahead
    simulator.arm(LOST)
    batch_id = given_doubt(carpool, producer)
    if not on_record:
        carpool.change("UPDATE batches SET in_doubt_at = NULL")
    jump_ahead(carpool)

    # When it is looked for again and again, Then it is not sent again
    with played_by(carpool, Lagging()):
        for _ in range(3):
            assert rescue(carpool) == []
    assert batch_states_by_id(carpool.engine)[batch_id] == "submitting"

    # And once the list shows it, it is found, and was run once
    assert rescue(carpool) == [batch_id]
    carpool.until(lambda: carpool.ended(2))
    assert simulator.ledger()["billed"] == 2


@pytest.mark.parametrize(
    "on_record", [True, False], ids=["doubt on record", "submitter dead or still posting"]
)
def test_the_clock_of_the_api_tells_when_a_batch_was_never_made(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, on_record: bool
) -> None:
    # Given a create that never arrived, and was looked for once
    simulator.arm(NOT_MADE)
    batch_id = given_doubt(carpool, producer)
    if not on_record:
        carpool.change(f"UPDATE batches SET in_doubt_at = NULL, submitting_at = submitting_at - {DAY}")
    assert rescue(carpool) == []

    # When less than its time has passed by the API's clock, Then it waits
    batch = load_batch(carpool.engine, batch_id)
    let_it_settle(carpool, DOUBT_POLICY.search_seconds(batch) - 60)
    assert rescue(carpool) == []

    # When all of it has, Then it is sent again, and run once
    let_it_settle(carpool, 60)
    assert rescue(carpool) == [batch_id]
    carpool.until(lambda: carpool.ended(2))
    assert simulator.ledger()["billed"] == 2


def test_without_a_date_a_doubt_stays(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a create that never arrived, at an API that does not tell its time
    simulator.arm(NOT_MADE)
    batch_id = given_doubt(carpool, producer)
    jump_ahead(carpool)

    # When it is looked for, Then it stays in doubt, and the log says why
    with played_by(carpool, Dateless()):
        assert rescue(carpool) == rescue(carpool) == []
    assert batch_states_by_id(carpool.engine)[batch_id] == "submitting"
    assert "no Date" in caplog.text


@pytest.mark.parametrize("apart", [0, 3_600_000], ids=["within a second", "an hour apart"])
def test_a_clock_set_back_between_two_lost_creates_hides_neither(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, apart: int
) -> None:
    # Given two lost creates, the first of which seems younger, as our clock was set back in between
    for _ in range(2):
        simulator.arm(LOST)
        given_doubt(carpool, producer)
    first, second = batch_ids(carpool.engine)
    carpool.change(f"UPDATE batches SET submitting_at = submitting_at + {DAY} WHERE id = id_of('{first}')")
    carpool.change(f"UPDATE batches SET cursor_at = cursor_at - {apart} WHERE id = id_of('{first}')")

    # When they are looked for until each one's time is over, Then both are found, and nothing was run twice
    rescue(carpool)
    let_it_settle(carpool, 1_000_000)
    carpool.until(lambda: _rescued(carpool) and carpool.ended(4))
    assert simulator.ledger()["ran_twice"] == []
    assert batch_states_by_id(carpool.engine) == {first: "completed", second: "completed"}


def test_a_doubt_that_starts_over_while_it_is_judged_is_waited_for(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given a batch about to be sent again, as its submitter seemed dead
    simulator.arm(NOT_MADE)
    batch_id = given_doubt(carpool, producer)
    rescue(carpool)
    judged = load_batch(carpool.engine, batch_id)

    # When its submitter fails only now, Then it stays in doubt
    with write(carpool.engine) as connection:
        in_doubt.begin(connection, batch_id, "in doubt: no answer came", now())
    assert not rescuer._send_again(carpool.engine, judged)
    assert batch_states_by_id(carpool.engine)[batch_id] == "submitting"


def test_results_that_are_not_there_yet_are_waited_for_whatever_our_clock_says(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a batch that has ended, and a local clock that is two days ahead from then on
    producer.enqueue_many([request("a"), request("b")])
    carpool.aggregate()
    carpool.submit()
    carpool.until_polled("ended")
    for module in (collector, poller):
        monkeypatch.setattr(module, "now", lambda: now() + 2 * DAY)

    # When its results are a 404 at first, Then they are read when they are there
    simulator.arm(Fault(operation="results", kind="error", status=404, times=2))
    carpool.collect()
    assert carpool.rows("SELECT count(*) AS n FROM requests WHERE finished_at IS NOT NULL")[0].n == 0
    carpool.until(lambda: carpool.ended(2))
    assert set(request_states(carpool.engine)) == {"completed"}


def test_a_batch_that_can_not_be_retrieved_is_not_gone_because_our_clock_says_so(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a batch in progress, and a local clock that is two days ahead
    producer.enqueue_many([request("a"), request("b")])
    carpool.aggregate()
    carpool.submit()
    monkeypatch.setattr(poller, "now", lambda: now() + 2 * DAY)

    # When it is a 404 for a moment, Then it is still in progress
    simulator.arm(Fault(operation="retrieve", kind="error", status=404))
    carpool.poll()
    assert set(batch_states(carpool.engine)) == {"in_progress"}
    carpool.until(lambda: carpool.ended(2))
    assert set(request_states(carpool.engine)) == {"completed"}


def _rescued(carpool: Carpool) -> bool:
    rescue(carpool)
    return True
