"""`carpool purge --request`: one request's words are cut out of what it shares with others, who keep theirs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from tests.fixtures.agents import AT_ONCE, Carpool, request
from tests.fixtures.command_line import run, succeeded
from tests.fixtures.deliveries import deliver
from tests.fixtures.inbox import entry, envelope
from tests.fixtures.queries import rows
from tests.fixtures.retention import DELIVER_ALL, row
from tests.fixtures.segments import insert_requests

from carpool import Producer, Request, Webhook
from carpool.contract import ENTRY_FIELD, encode_entry
from carpool.results import Result
from carpool_worker.database import read, write
from carpool_worker.exceptions import ParamsGone
from carpool_worker.models.tables import params
from carpool_worker.pipeline.inbox import quarantine
from carpool_worker.simulator import RemoteSimulator, Script
from carpool_worker.store import erasure
from carpool_worker.store.requests import bodies, segments
from carpool_worker.store.requests.answers import load_answers

pytestmark = pytest.mark.usefixtures("command_line")

CALLBACK = Webhook("https://billing.example.com/claude")


@pytest.fixture
def pair(carpool: Carpool, redis_url: str) -> Iterator[tuple[str, str]]:
    """Two requests that were enqueued together."""
    carpool.limits = AT_ONCE
    with Producer(redis_url, client="billing") as producer:
        asked = [
            Request(request(text), callback=CALLBACK, metadata={"said": text})
            for text in ("MARK-a", "MARK-b")
        ]
        first, second = producer.enqueue_many(asked)
        yield first, second


def purge(request_id: str) -> str:
    return succeeded("purge", "--request", request_id, "--yes")


def params_of(carpool: Carpool, request_id: str) -> bytes:
    with read(carpool.engine) as connection:
        return segments.body_of(connection, request_id)


def states(carpool: Carpool) -> dict[str, str]:
    return {found.id: found.state for found in carpool.rows("SELECT id, state FROM requests")}


def test_what_it_said_is_gone_and_what_the_other_said_is_there(
    carpool: Carpool, pair: tuple[str, str]
) -> None:
    # Given both answered, and called back
    one, other = pair
    carpool.until(lambda: carpool.ended(2))
    carpool.change(DELIVER_ALL)

    # When
    said = purge(one[:30])

    # Then
    assert "0 requests canceled; 1 in the ledger" in said
    assert "Erased: 1 params, 1 answers, 1 deliveries, 0 replies" in said
    assert params_of(carpool, one) == b""
    assert b"MARK-b" in params_of(carpool, other)
    with read(carpool.engine) as connection:
        found = load_answers(connection, pair)
    assert b"answer_pruned" in bytes(found[one].error)
    assert found[one].cost == found[other].cost
    assert found[other].message
    assert (bytes(found[one].metadata), bytes(found[other].metadata)) == (b"null", b'{"said":"MARK-b"}')

    # And the callback that they share goes with the last of them
    assert carpool.rows("SELECT callback FROM segments")[0].callback
    assert "Erased: 1 params, 1 answers, 1 deliveries" in purge(other)
    for table in ("params", "answers", "deliveries"):
        assert carpool.rows(f"SELECT * FROM {table}") == []
    assert carpool.rows("SELECT callback FROM segments") == [(None,)]
    assert "Erased: 0 params, 0 answers, 0 deliveries" in purge(other)


def test_a_delivery_that_is_due_is_made_without_the_content(
    carpool: Carpool, redis_url: str, receiver: Any
) -> None:
    # Given two answers that are due to a callback
    with Producer(redis_url, client="billing", allow_http=True) as producer:
        callback = Webhook(receiver.url("/claude"))
        ids = list(producer.enqueue_many([request("MARK-a"), request("MARK-b")], callback=callback))
    carpool.until(lambda: carpool.ended(2))

    # When both are purged before they are sent
    for id_ in ids:
        assert "1 answers, 0 deliveries" in purge(id_)
    assert deliver(carpool.engine) == 2

    # Then it was called for both, and nothing is left but what the ledger keeps
    sent = [Result.from_json(json.loads(body)["data"]) for _, body in receiver.posts["/claude"]]
    assert sorted(one.id for one in sent) == sorted(ids)
    assert [one.error and one.error.type for one in sent] == ["answer_pruned"] * 2
    for id_ in ids:
        purge(id_)
    assert [carpool.rows(f"SELECT * FROM {table}") for table in ("answers", "deliveries")] == [[], []]


def test_one_that_waits_is_canceled_and_the_other_is_answered(
    unhurried: Carpool, redis_url: str, pair: tuple[str, str]
) -> None:
    # Given two requests in an open batch
    one, other = pair
    unhurried.aggregate()

    # When
    assert "1 request canceled" in purge(one)

    # Then
    unhurried.limits = AT_ONCE
    unhurried.until(lambda: unhurried.ended(2))
    assert states(unhurried) == {one: "canceled", other: "completed"}
    assert [found.request_count for found in unhurried.rows("SELECT request_count FROM batches")] == [1]


def test_another_that_is_tried_again_has_its_params(
    carpool: Carpool, simulator: RemoteSimulator, pair: tuple[str, str]
) -> None:
    # Given two requests at Anthropic, one of which is purged there
    one, other = pair
    simulator.script(Script(contains="MARK-b", outcome="errored", error_type="api_error"))
    carpool.aggregate()
    carpool.submit()
    purge(one)

    # When the other fails, and is tried again
    carpool.until_polled("ended")
    carpool.collect()
    assert states(carpool) == {one: "canceled", other: "retryable"}
    simulator.clear_scripts()
    carpool.until(lambda: carpool.ended(2))

    # Then
    assert states(carpool) == {one: "canceled", other: "completed"}


def test_a_batch_is_not_posted_without_a_request_that_is_erased_while_it_is_read(
    unhurried: Carpool, pair: tuple[str, str]
) -> None:
    unhurried.aggregate()
    unhurried.change("UPDATE requests SET cancel_requested_at = 1")
    with write(unhurried.engine) as connection:
        erasure.erase_request(connection, pair[0])
    [batch] = unhurried.rows("SELECT id FROM batches")

    with read(unhurried.engine) as connection, pytest.raises(ParamsGone):
        list(bodies.of_batch(connection, batch.id, []))


def test_a_clients_purge_keeps_the_params_of_what_is_still_to_be_sent(engine: sa.Engine) -> None:
    # Given a segment of which two requests have ended, and one has not
    members = [row(1, 1), row(2, None), row(3, 1)]
    said = {one["id"]: one["id"].encode() for one in members}
    with write(engine) as connection:
        insert_requests(connection, members, said)

    # When
    with write(engine) as connection:
        step = erasure.erase_requests(connection, "billing", 0, 10)

    # Then its params are where they were, and no others
    assert (step.requests, step.gone["params"]) == (3, 2)
    running = members[1]["id"]
    with read(engine) as connection:
        assert segments.body_of(connection, running) == running.encode()
        [stored] = rows(engine, "SELECT id FROM params")
        [(_, left)] = segments.bodies(connection, params, [stored.id])
    assert left == [b"", running.encode(), b""]
    found = rows(engine, "SELECT position FROM requests ORDER BY id")
    assert [one.position for one in found] == [None, 1, None]


def test_quarantined_entries_that_have_only_this_request_are_dropped(
    carpool: Carpool, pair: tuple[str, str]
) -> None:
    # Given it in an entry of its own, and in one with another
    one, other = pair
    carpool.aggregate()
    for ids in ([one], [one, other]):
        packed = encode_entry(entry(*(envelope(int(id_, 16)) for id_ in ids)))
        quarantine.add(carpool.server, {ENTRY_FIELD: packed}, ValueError("no"))

    # When
    said = purge(one)

    # Then
    assert "1 quarantined entry." in said
    assert "It is still in 1 quarantined entry, with others" in said


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "name either --client or --request"),
        (["--client", "billing", "--request", "abc"], "name either --client or --request"),
        (["--request", "abc"], "there is no request abc"),
    ],
)
def test_it_must_be_known_what_is_to_be_purged(carpool: Carpool, arguments: list[str], problem: str) -> None:
    result = run("purge", *arguments, "--yes")

    assert result.exit_code != 0
    assert problem in str(result.exception) + result.output
