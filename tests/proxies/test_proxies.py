"""A gateway behind the usual proxies: what docs/gateway.md has for each lets everything through, at once and whole."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import anthropic
import pytest
import trustme
from tests.fixtures.agents import request
from tests.fixtures.gateway import RunGateway, WorkingCarpool, at_work
from tests.fixtures.proxies import PROXIES, proxied, trusting
from tests.fixtures.waiting import until

SIGNS = {"gateway_silence": 0.3, "gateway_ping_interval": 0.3, "gateway_trusted_proxies": "127.0.0.0/8"}
LARGE_BYTES = 30_000_000


class Proxied:
    """A gateway behind a proxy, and how to call it."""

    def __init__(self, url: str, secret: str, authority: trustme.CA) -> None:
        self.url = url
        self._secret = secret
        self._trusted = trusting(authority)

    def connection(self) -> HTTPSConnection:
        return HTTPSConnection(urlsplit(self.url).netloc, timeout=60, context=self._trusted)

    def post(self, connection: HTTPSConnection, path: str, body: object, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {"x-api-key": self._secret, "content-type": "application/json", **named}
        connection.request("POST", path, json.dumps(body), sent)

    def sdk(self) -> anthropic.Anthropic:
        http = anthropic.DefaultHttpxClient(verify=self._trusted)
        return anthropic.Anthropic(base_url=self.url, api_key=self._secret, http_client=http)


@pytest.fixture(params=sorted(PROXIES))
def behind(
    request: pytest.FixtureRequest, run_gateway: RunGateway, secret: str, tmp_path: Path
) -> Iterator[Proxied]:
    authority = trustme.CA()
    with (
        run_gateway(**SIGNS) as url,
        proxied(request.param, urlsplit(url).port or 0, authority, tmp_path) as outside,
    ):
        yield Proxied(outside, secret, authority)


def test_signs_of_life_and_the_message_come_through_at_once(
    behind: Proxied, idle_carpool: WorkingCarpool
) -> None:
    connection = behind.connection()
    behind.post(connection, "/v1/messages", request("Hello there"))
    answer = connection.getresponse()
    begin = time.monotonic()

    first = answer.read1(1)
    with at_work(idle_carpool):
        rest = answer.read()
    connection.close()

    assert answer.status == 200
    assert first == b" "
    assert time.monotonic() - begin < 30
    assert json.loads(rest)["type"] == "message"


def test_a_stream_s_pings_come_through_at_once(behind: Proxied, idle_carpool: WorkingCarpool) -> None:
    connection = behind.connection()
    behind.post(connection, "/v1/messages", request("Hello there") | {"stream": True})
    answer = connection.getresponse()

    first = answer.read1(1_000)
    with at_work(idle_carpool):
        rest = answer.read()
    connection.close()

    assert first.startswith(b"event: ping")
    assert b"message_start" not in first
    assert b"event: message_stop" in rest


def test_a_large_body_and_the_errors_of_the_gateway_come_through(
    behind: Proxied, idle_carpool: WorkingCarpool
) -> None:
    connection = behind.connection()
    large = request("x" * LARGE_BYTES)
    behind.post(connection, "/v1/messages", large, prefer="respond-async")
    taken = connection.getresponse()
    taken.read()
    behind.post(connection, "/v1/messages", {"model": "claude-haiku-4-5"})
    refused = connection.getresponse()
    said = json.loads(refused.read())
    connection.close()

    assert taken.status == 202
    assert refused.status == 400
    assert said["error"]["type"] == "invalid_request_error"


def test_the_sdk_s_batches_get_urls_of_the_proxy(behind: Proxied, working_carpool: WorkingCarpool) -> None:
    with behind.sdk() as client:
        made = client.messages.batches.create(
            requests=[{"custom_id": "one", "params": cast(Any, request("Hello"))}]
        )
        while (batch := client.messages.batches.retrieve(made.id)).processing_status != "ended":
            time.sleep(0.2)
        [result] = client.messages.batches.results(made.id)

    assert batch.results_url == f"{behind.url}/v1/messages/batches/{made.id}/results"
    assert result.result.type == "succeeded"


def test_the_gateway_learns_that_a_caller_hung_up_and_the_retry_gets_the_same_request(
    behind: Proxied, idle_carpool: WorkingCarpool
) -> None:
    # Given a call whose connection ends unanswered at the caller's side of the proxy
    connection = behind.connection()
    behind.post(connection, "/v1/messages", request("Hello there"))
    connection.getresponse().read1(1)
    connection.close()
    until(idle_carpool.orphans)

    # When its retry comes
    connection = behind.connection()
    behind.post(connection, "/v1/messages", request("Hello there"))
    with at_work(idle_carpool):
        message = json.loads(connection.getresponse().read())
    connection.close()

    # Then it gets the same request's answer
    assert message["type"] == "message"
    assert idle_carpool.rows("SELECT count(*) FROM requests") == [(1,)]
