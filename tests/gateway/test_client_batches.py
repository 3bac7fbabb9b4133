"""client.messages.batches of the official SDK, through a gateway: what programs get is what the API would give them."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
import socket
from collections import namedtuple
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import anthropic
import celery
import pytest
import sqlalchemy as sa
from anthropic.types.messages import MessageBatch
from tests.fixtures.agents import request
from tests.fixtures.client_batches import assert_counts_are_those_of_the_rows, body_of
from tests.fixtures.deliveries import webhook_settings
from tests.fixtures.gateway import ON_BOTH, RunGateway, WorkingCarpool, new_key
from tests.fixtures.gateway_calls import begun, call, sdk
from tests.fixtures.waiting import until

from carpool_worker.gateway import batch_cache
from carpool_worker.operations import client_batches
from carpool_worker.pipeline.delivery import courier
from carpool_worker.simulator import RemoteSimulator

PATH = "/v1/messages/batches"


def items(*names: str) -> list[Any]:
    return [{"custom_id": name, "params": request(name)} for name in names]


def body(*names: str) -> bytes:
    return body_of({name: request(name) for name in names})


def create(url: str, secret: str, given: bytes, **headers: str) -> Any:
    named = {"content-type": "application/json"} | {
        name.replace("_", "-"): text for name, text in headers.items()
    }
    return call(url, secret, "POST", PATH, given, named)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is shown from the cache, unless a test says so."""
    monkeypatch.setattr(batch_cache, "SECONDS", 0.0)


def ended(client: anthropic.Anthropic, batch_id: str) -> MessageBatch:
    found: list[MessageBatch] = []

    def is_over() -> bool:
        found[:] = [client.messages.batches.retrieve(batch_id)]
        return found[0].processing_status == "ended"

    until(is_over)
    return found[0]


@ON_BOTH
def test_the_sdk_takes_a_batch_the_whole_way(
    gateway: str, secret: str, working_carpool: WorkingCarpool, simulator: RemoteSimulator
) -> None:
    with sdk(gateway, secret, _strict_response_validation=True) as client:
        # When
        bad: Any = {"custom_id": "bad", "params": {}}
        made = client.messages.batches.create(requests=[*items("one", "two"), bad])

        # Then
        assert (made.id[:11], made.type, made.processing_status) == (
            "msgbatch_01",
            "message_batch",
            "in_progress",
        )
        assert (made.results_url, made.ended_at, made.request_counts.errored) == (None, None, 1)
        assert (made.expires_at - made.created_at).total_seconds() == 86_400

        # When
        over = ended(client, made.id)

        # Then
        assert over.request_counts.model_dump() == {
            "processing": 0,
            "succeeded": 2,
            "errored": 1,
            "canceled": 0,
            "expired": 0,
        }
        assert over.results_url == f"{gateway}{PATH}/{made.id}/results"
        lines = {line.custom_id: line.result for line in client.messages.batches.results(made.id)}
        assert lines["one"].type == lines["two"].type == "succeeded"
        assert lines["one"].message.content[0].type == "text"
        assert lines["bad"].type == "errored"
        assert lines["bad"].error.error.type == "invalid_request_error"
        assert simulator.ledger()["billed"] == 2

        # And it is listed, and deleted
        assert [one.id for one in client.messages.batches.list(limit=1)] == [made.id]
        gone = client.messages.batches.delete(made.id)
        assert (gone.id, gone.type) == (made.id, "message_batch_deleted")
        with pytest.raises(anthropic.NotFoundError, match="Message Batch ID not found"):
            client.messages.batches.retrieve(made.id)


def test_the_beta_client_shares_its_lane_with_all_others(
    gateway: str, secret: str, idle_carpool: WorkingCarpool
) -> None:
    with sdk(gateway, secret) as client:
        client.beta.messages.batches.create(requests=items("one"))
        client.messages.batches.create(requests=items("two"))

    assert len(idle_carpool.rows("SELECT DISTINCT lane FROM segments")) == 1


@ON_BOTH
def test_pages_lead_through_all_batches(gateway: str, secret: str, idle_carpool: WorkingCarpool) -> None:
    with sdk(gateway, secret) as client:
        made = [client.messages.batches.create(requests=items(f"number-{number}")).id for number in range(5)]

        assert [one.id for one in client.messages.batches.list(limit=2)] == made[::-1]
        before = client.messages.batches.list(limit=2, before_id=made[1])
        assert ([one.id for one in before.data], before.has_more) == ([made[3], made[2]], True)
        assert [one.id for one in before] == [made[3], made[2], made[4]]


@ON_BOTH
def test_cancel_ends_what_was_not_sent(gateway: str, secret: str, idle_carpool: WorkingCarpool) -> None:
    with sdk(gateway, secret) as client:
        made = client.messages.batches.create(requests=items("one", "two"))

        canceling = client.messages.batches.cancel(made.id)
        assert (canceling.processing_status, canceling.request_counts.processing) == ("canceling", 2)
        with pytest.raises(anthropic.BadRequestError, match="In progress batches cannot be deleted"):
            client.messages.batches.delete(made.id)
        with pytest.raises(anthropic.AnthropicError, match="No `results_url` for the given batch"):
            list(client.messages.batches.results(made.id))
        idle_carpool.aggregate()

        over = client.messages.batches.retrieve(made.id)
        assert (over.processing_status, over.request_counts.canceled) == ("ended", 2)
        assert over.cancel_initiated_at == canceling.cancel_initiated_at
        assert {line.result.type for line in client.messages.batches.results(made.id)} == {"canceled"}


@ON_BOTH
def test_another_tenants_batch_is_none(
    gateway: str, secret: str, gateway_engine: sa.Engine, idle_carpool: WorkingCarpool
) -> None:
    theirs = new_key(gateway_engine, client="theirs")
    id_ = create(gateway, theirs, body("one")).json["id"]

    for method, path in (
        ("GET", f"{PATH}/{id_}"),
        ("DELETE", f"{PATH}/{id_}"),
        ("POST", f"{PATH}/{id_}/cancel"),
        ("GET", f"{PATH}/{id_}/results"),
        ("GET", f"{PATH}?after_id={id_}"),
        ("GET", f"{PATH}/msgbatch_nonsense"),
    ):
        reply = call(gateway, secret, method, path)
        assert (reply.status, reply.error_type) == (404, "not_found_error"), path
    assert call(gateway, secret, "GET", PATH).json == {
        "data": [],
        "has_more": False,
        "first_id": None,
        "last_id": None,
    }


Refused = namedtuple("Refused", "body status words")


@pytest.mark.parametrize(
    "refused",
    [
        Refused(b"{", 400, "The request body is not valid JSON"),
        Refused(
            b'{"requests":[]}', 400, "requests: List should have at least 1 item after validation, not 0"
        ),
        Refused(b'{"requests":[{"params":{}}]}', 400, "requests.0.custom_id: Field required"),
        Refused(body("one")[:-2] + b"," + body("one")[13:], 400, "custom_id's must be unique within a batch"),
    ],
)
def test_what_breaks_a_rule_is_refused_whole(
    gateway: str, secret: str, idle_carpool: WorkingCarpool, refused: Refused
) -> None:
    reply = create(gateway, secret, refused.body)

    assert (reply.status, reply.error_type) == (refused.status, "invalid_request_error")
    assert refused.words in reply.json["error"]["message"]
    assert idle_carpool.rows("SELECT id FROM client_batches") == []


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=many"])
def test_a_limit_that_can_not_be_is_refused(gateway: str, secret: str, query: str) -> None:
    reply = call(gateway, secret, "GET", f"{PATH}?{query}")

    assert (reply.status, reply.json["error"]["message"][:7]) == (400, "limit: ")


def test_a_body_is_measured_unpacked(
    gateway: str, secret: str, monkeypatch: pytest.MonkeyPatch, idle_carpool: WorkingCarpool
) -> None:
    monkeypatch.setattr("carpool_worker.gateway.spools.MAX_BODY_BYTES", 100_000)
    packed = gzip.compress(body(*(f"number-{number}" for number in range(2_000))))
    assert len(packed) < 100_000

    reply = create(gateway, secret, packed, content_encoding="gzip")

    assert (reply.status, reply.error_type) == (413, "request_too_large")
    assert create(gateway, secret, gzip.compress(body("one")), content_encoding="gzip").status == 200


def test_without_room_on_the_disk_nothing_is_taken(
    gateway: str, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12 - 10, 10))

    reply = create(gateway, secret, body("one"))

    assert (reply.status, reply.error_type, reply.headers["retry-after"]) == (529, "overloaded_error", "15")


@ON_BOTH
def test_a_retry_gets_the_batch_that_was_made(
    gateway: str, secret: str, idle_carpool: WorkingCarpool
) -> None:
    first = create(gateway, secret, body("one")).json["id"]

    assert create(gateway, secret, body("one"), x_stainless_retry_count="1").json["id"] == first
    assert create(gateway, secret, body("one"), x_stainless_retry_count="0").json["id"] != first
    other_lane = create(
        gateway, secret, body("one"), x_stainless_retry_count="1", anthropic_beta="new-2026-01-01"
    )
    assert other_lane.json["id"] != first


@ON_BOTH
def test_an_idempotency_key_names_a_batch(gateway: str, secret: str, idle_carpool: WorkingCarpool) -> None:
    first = create(gateway, secret, body("one"), idempotency_key="a")

    assert create(gateway, secret, body("one"), idempotency_key="a").json["id"] == first.json["id"]
    other = create(gateway, secret, body("two"), idempotency_key="a")
    assert (other.status, other.headers["x-should-retry"]) == (422, "false")


def test_who_hangs_up_while_the_body_arrives_leaves_nothing(
    gateway: str, secret: str, idle_carpool: WorkingCarpool
) -> None:
    given = body("one", "two")
    with begun(gateway, secret, "POST", PATH, given[:50], {"content-length": str(len(given))}):
        pass

    assert create(gateway, secret, body("three")).status == 200
    assert [row.custom_id for row in idle_carpool.rows("SELECT custom_id FROM requests")] == ["three"]


@ON_BOTH
def test_models_that_the_key_may_not_use_are_errored_results(
    gateway: str, gateway_engine: sa.Engine, idle_carpool: WorkingCarpool
) -> None:
    only_opus = new_key(gateway_engine, models=["claude-opus-*"])

    made = create(gateway, only_opus, body("one")).json

    assert (made["processing_status"], made["request_counts"]["errored"]) == ("ended", 1)
    [line] = call(gateway, only_opus, "GET", f"{PATH}/{made['id']}/results").body.splitlines()
    assert json.loads(line)["result"]["error"]["error"]["type"] == "permission_error"


def test_a_key_without_the_scope_makes_none(gateway: str, gateway_engine: sa.Engine) -> None:
    reply = create(gateway, new_key(gateway_engine, scopes=["messages"]), body("one"))

    assert (reply.status, reply.error_type) == (403, "permission_error")


def test_an_ended_batch_says_what_it_cost(gateway: str, secret: str, working_carpool: WorkingCarpool) -> None:
    id_ = create(gateway, secret, body("one")).json["id"]
    until(lambda: call(gateway, secret, "GET", f"{PATH}/{id_}").json["ended_at"] is not None)

    reply = call(gateway, secret, "GET", f"{PATH}/{id_}")

    assert float(reply.headers["x-carpool-cost"]) == float(reply.headers["x-carpool-saved"]) > 0
    assert "retry-after" not in reply.headers
    assert_counts_are_those_of_the_rows(working_carpool.engine)


def test_counts_are_kept_for_a_moment(
    gateway: str, secret: str, idle_carpool: WorkingCarpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_cache, "SECONDS", 1_000.0)
    id_ = create(gateway, secret, body("one")).json["id"]
    shown = call(gateway, secret, "GET", f"{PATH}/{id_}")
    assert shown.headers["retry-after"] == "10"
    idle_carpool.change("UPDATE client_batches SET processing = 0, succeeded = 1, ended_at = 1")

    assert call(gateway, secret, "GET", f"{PATH}/{id_}").json == shown.json


def test_a_batch_has_its_results_url_under_a_prefix(run_gateway: RunGateway, secret: str) -> None:
    with run_gateway(gateway_prefixes=["/claude"]) as url:
        made = create(f"{url}", secret, body_of({"one": {}})).json
        prefixed = call(url, secret, "GET", f"/claude{PATH}/{made['id']}").json

        assert prefixed["results_url"] == f"{url}/claude{PATH}/{made['id']}/results"
        assert call(url, secret, "GET", f"/claude{PATH}/{made['id']}/results").status == 200


@pytest.mark.parametrize(
    "error", [sa.exc.OperationalError("read", None, OSError("gone")), RuntimeError("odd")]
)
def test_results_that_can_not_be_read_to_the_end_are_cut(
    gateway: str, secret: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    id_ = create(gateway, secret, body_of({"one": {}, "two": {}})).json["id"]
    whole = call(gateway, secret, "GET", f"{PATH}/{id_}/results").body
    assert len(whole.splitlines()) == 2

    def failing(*_: Any) -> Iterator[bytes]:
        yield whole.splitlines(keepends=True)[0]
        raise error

    monkeypatch.setattr(client_batches, "results", failing)
    place = urlsplit(gateway)
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=20) as connection:
        asked = f"GET {PATH}/{id_}/results HTTP/1.1\r\nHost: here\r\nx-api-key: {secret}\r\n\r\n"
        connection.sendall(asked.encode())
        came = b"".join(iter(lambda: connection.recv(65_536), b""))

    # Then the connection is closed after the lines that were read, without the chunk that ends an answer
    assert came.startswith(b"HTTP/1.1 200 OK")
    assert came.endswith(whole.splitlines(keepends=True)[0] + b"\r\n")


def test_x_carpool_callback_tells_when_a_batch_has_ended(
    gateway: str, idle_carpool: WorkingCarpool, redis_url: str
) -> None:
    # Given batches with callbacks, of a key that may have them, and of one that may not
    secret = new_key(idle_carpool.engine)
    tellers = ["task:billing.on_batch@billing", "https://billing.example.com/ended"]
    task, webhook = (create(gateway, secret, body("one"), x_carpool_callback=to) for to in tellers)
    assert task.status == webhook.status == 200
    lacks_scope = new_key(idle_carpool.engine, name="quiet", scopes=["batches"])
    refused = create(gateway, lacks_scope, body("one"), x_carpool_callback=tellers[0])
    assert (refused.status, "callbacks" in refused.json["error"]["message"]) == (403, True)
    assert create(gateway, secret, body("one"), x_carpool_callback="nonsense").status == 400

    # When they have ended
    until(
        lambda: not idle_carpool.rows("SELECT 1 FROM client_batches WHERE ended_at IS NULL"),
        step=idle_carpool.work,
    )
    owed = idle_carpool.rows("SELECT target, channel FROM deliveries ORDER BY channel")
    with celery.Celery("tests", broker=redis_url, set_as_current=False) as app:
        courier.deliver(idle_carpool.engine, app, webhook_settings())

    # Then the task is sent, with the batch as it shows itself, and the webhook is owed
    assert owed == [("billing.on_batch", "task"), (tellers[1], "webhook")]
    [message] = [json.loads(one) for one in idle_carpool.redis.lrange("billing", 0, -1)]
    [[told], _, _] = json.loads(base64.b64decode(message["body"]))
    shown = call(gateway, secret, "GET", f"{PATH}/{task.json['id']}").json
    assert message["headers"]["task"] == "billing.on_batch"
    assert {name: told[name] for name in shown} == shown
    assert told["processing_status"] == "ended"
