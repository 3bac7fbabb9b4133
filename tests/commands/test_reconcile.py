"""`carpool reconcile`: it names what ran twice, changes nothing, and its exit code tells."""

from __future__ import annotations

import json

import pytest
from tests.fixtures.agents import Carpool, request
from tests.fixtures.command_line import run, succeeded
from tests.fixtures.doubts import claude_ids, post_as_a_stranger
from tests.fixtures.queries import batch_ids
from tests.fixtures.waiting import until

from carpool import Producer
from carpool_worker.simulator import Fault, RemoteSimulator

pytestmark = pytest.mark.usefixtures("command_line")


def given_a_batch(carpool: Carpool, producer: Producer) -> str:
    producer.enqueue_many([request("a"), request("b")])
    carpool.aggregate()
    carpool.submit()
    carpool.until(lambda: carpool.ended(2))
    until(lambda: {one.processing_status for one in carpool.claude.newest({}, 9)} == {"ended"})
    return batch_ids(carpool.engine)[0]


def test_all_is_well_if_every_batch_of_ours_is_known(carpool: Carpool, producer: Producer) -> None:
    given_a_batch(carpool, producer)
    stranger = post_as_a_stranger(carpool.claude)
    until(lambda: carpool.claude.retrieve(stranger.id, {}).processing_status == "ended")

    printed = succeeded("reconcile")

    assert "account default: 2 batches listed, 1 of them ours\n" in printed
    assert "1 batch is another program's.\n" in printed
    assert printed.endswith("Nothing is known to have run twice.\n")


def test_what_ran_twice_is_named_and_on_the_status(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given a relay that posted a batch twice
    simulator.arm(Fault(operation="create", kind="repeated"))
    batch_id = given_a_batch(carpool, producer)
    ours = claude_ids(carpool)[batch_id]
    [twin] = [one.id for one in carpool.claude.newest({}, 9) if one.id != ours]

    # When
    told = run("reconcile", "--since", "1h")
    as_json = json.loads(run("reconcile", "--json").stdout)

    # Then
    assert told.exit_code == 1
    assert f"{twin} ran 2 requests of batch {batch_id} besides that batch\n" in told.output
    assert [one["claude_id"] for one in as_json["findings"]] == [twin]
    assert as_json["counts"]["twice"] == 1
    assert f"2 requests ran twice: of batch {batch_id}" in succeeded("status")


def test_a_list_that_cannot_be_read_is_no_good_news(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    given_a_batch(carpool, producer)
    simulator.arm(Fault(operation="list", kind="error", status=500))

    told = run("reconcile")

    assert told.exit_code == 1
    assert "account default: the list can't be read: 500" in told.output
    assert "Nothing is known" not in told.output
