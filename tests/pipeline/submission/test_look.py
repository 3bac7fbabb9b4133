"""The look at the list just before a post: what may be this batch already is a doubt, not a second post."""

from __future__ import annotations

import io
import json

import pytest
import sqlalchemy as sa
from tests.fixtures.agents import Carpool, request
from tests.fixtures.doubts import age, assert_each_ran_once, claude_ids, post_as_a_stranger, rescue
from tests.fixtures.queries import batch_ids, batch_states_by_id
from tests.fixtures.waiting import until

from carpool import Producer
from carpool_worker.claude.batch import RemoteBatch
from carpool_worker.claude.fence import Fence
from carpool_worker.database import now, write
from carpool_worker.models import tables
from carpool_worker.simulator import Fault, RemoteSimulator

RATE_LIMITED = Fault(operation="create", kind="error", status=429)


@pytest.fixture
def batch_id(carpool: Carpool, producer: Producer, simulator: RemoteSimulator) -> str:
    producer.enqueue_many([request("a"), request("b")])
    carpool.aggregate()
    return batch_ids(carpool.engine)[0]


def post_as_forgotten(carpool: Carpool, batch_id: str) -> RemoteBatch:
    """Post a batch of ours so that no table knows of it, as before a backup was restored."""
    rows = carpool.rows(f"SELECT id FROM requests WHERE batch_id = id_of('{batch_id}')")
    items = [{"custom_id": row.id, "params": request()} for row in rows]
    body = json.dumps({"requests": items}).encode()
    return carpool.claude.create(io.BytesIO(body), len(body), {}, Fence(60))


def refused_once(carpool: Carpool, simulator: RemoteSimulator, batch_id: str) -> None:
    simulator.arm(RATE_LIMITED)
    carpool.submit_batch(batch_id)
    carpool.forget_waiting()
    assert batch_states_by_id(carpool.engine) == {batch_id: "sealed"}


def ended(carpool: Carpool, count: int) -> bool:
    rescue(carpool)
    return carpool.ended(count)


def test_what_a_relay_posted_though_it_refused_is_adopted(
    carpool: Carpool, simulator: RemoteSimulator, batch_id: str
) -> None:
    # Given a relay that posted the batch, and then refused it
    simulator.arm(Fault(operation="create", kind="error_after", status=429))
    carpool.submit_batch(batch_id)
    carpool.forget_waiting()
    assert batch_states_by_id(carpool.engine) == {batch_id: "sealed"}

    # When it is to be posted once more, Then it is in doubt instead
    submitted = carpool.submit_batch(batch_id)
    assert submitted
    assert submitted.state == "submitting"
    assert "may be this batch" in str(submitted.error)

    carpool.until(lambda: ended(carpool, 2))
    assert_each_ran_once(simulator, 2)


def test_a_stranger_delays_a_second_post_once_and_others_after_it_do_not(
    carpool: Carpool, simulator: RemoteSimulator, batch_id: str
) -> None:
    refused_once(carpool, simulator, batch_id)
    stranger = post_as_a_stranger(carpool.claude)

    # When it is to be posted once more, Then the stranger is taken for it until its results show that it isn't
    carpool.submit_batch(batch_id)
    assert batch_states_by_id(carpool.engine) == {batch_id: "submitting"}
    assert rescue(carpool) == [batch_id]
    assert claude_ids(carpool) == {batch_id: stranger.id}
    carpool.until(lambda: batch_states_by_id(carpool.engine)[batch_id] == "submitting")

    # And strangers that are made long after its posts are none of its business
    age(carpool)
    others = {post_as_a_stranger(carpool.claude).id for _ in range(2)}
    carpool.until(lambda: ended(carpool, 2))
    assert claude_ids(carpool)[batch_id] not in {stranger.id, *others}
    assert_each_ran_once(simulator, 2)


def test_a_stranger_before_a_first_post_only_rings(
    carpool: Carpool, simulator: RemoteSimulator, batch_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    post_as_a_stranger(carpool.claude)

    submitted = carpool.submit_batch(batch_id)

    assert submitted
    assert submitted.state == "in_progress"
    assert "another program's batch looks like this one" in caplog.text


def until_ended(carpool: Carpool, remote: RemoteBatch) -> None:
    until(lambda: carpool.claude.retrieve(remote.id, {}).processing_status == "ended")


def test_a_stranger_that_has_ended_is_remembered(
    carpool: Carpool, simulator: RemoteSimulator, batch_id: str
) -> None:
    stranger = post_as_a_stranger(carpool.claude)
    until_ended(carpool, stranger)

    carpool.submit_batch(batch_id)

    rows = carpool.rows("SELECT claude_id, batch_id, is_lost FROM unowned_batches")
    assert [(row.claude_id, row.batch_id, bool(row.is_lost)) for row in rows] == [(stranger.id, None, False)]


def test_a_batch_that_the_tables_forgot_is_adopted_instead_of_posted(
    carpool: Carpool, simulator: RemoteSimulator, batch_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a database restored from before the batch was posted
    forgotten = post_as_forgotten(carpool, batch_id)
    until_ended(carpool, forgotten)

    # When it is to be posted, Then it is found out
    submitted = carpool.submit_batch(batch_id)
    assert submitted
    assert submitted.state == "submitting"
    assert "not in the tables" in caplog.text
    assert rescue(carpool) == [batch_id]
    assert claude_ids(carpool) == {batch_id: forgotten.id}
    carpool.until(lambda: carpool.ended(2))
    assert_each_ran_once(simulator, 2)


def test_once_the_tables_have_lost_rows_a_first_post_is_as_careful_as_a_second(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, batch_id: str
) -> None:
    # Given that a forgotten batch of ours was found before, and another one that is not known yet
    carpool.submit_batch(batch_id)
    producer.enqueue_many([request("c"), request("d")])
    carpool.aggregate()
    second = batch_ids(carpool.engine)[-1]
    found = {"claude_id": "msgbatch_found", "batch_id": batch_id, "found_at": now(), "is_lost": True}
    with write(carpool.engine) as connection:
        connection.execute(sa.insert(tables.unowned).values(headers="{}", **found))
    forgotten = post_as_forgotten(carpool, second)

    submitted = carpool.submit_batch(second)

    assert submitted
    assert submitted.state == "submitting"
    carpool.until(lambda: ended(carpool, 4))
    assert claude_ids(carpool)[second] == forgotten.id


def test_a_batch_of_another_size_is_no_suspect(
    carpool: Carpool, simulator: RemoteSimulator, batch_id: str
) -> None:
    refused_once(carpool, simulator, batch_id)
    post_as_a_stranger(carpool.claude, count=3)

    submitted = carpool.submit_batch(batch_id)

    assert submitted
    assert submitted.state == "in_progress"


def test_the_cursor_of_the_first_post_is_kept(
    carpool: Carpool, simulator: RemoteSimulator, batch_id: str
) -> None:
    first = post_as_a_stranger(carpool.claude, count=3)
    refused_once(carpool, simulator, batch_id)
    post_as_a_stranger(carpool.claude, count=3)
    refused_once(carpool, simulator, batch_id)

    [row] = carpool.rows("SELECT cursor_id, cursor_at, looked_at, submissions FROM batches")
    assert (row.cursor_id, row.submissions) == (first.id, 2)
    assert row.looked_at >= row.cursor_at
