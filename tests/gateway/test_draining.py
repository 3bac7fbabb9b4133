"""A gateway that is to end: calls under way come to their end, and no other begins."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from tests.fixtures.agents import request
from tests.fixtures.gateway import RunGateway, WorkingCarpool, at_work
from tests.fixtures.gateway_calls import at_once
from tests.fixtures.waiting import until

from carpool_worker.gateway import server
from carpool_worker.gateway.state import Gateway

HEADERS = {"X-Carpool-Max-Wait": "0.01", "content-type": "application/json"}


def body_of(text: str) -> bytes:
    return json.dumps(request(text)).encode()


@contextlib.contextmanager
def connected(url: str) -> Iterator[HTTPConnection]:
    """Open a connection, which is not opened again once it is closed, and make a call on it."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.connect()
    connection.auto_open = False
    connection.request("GET", "/healthz")
    connection.getresponse().read()
    try:
        yield connection
    finally:
        connection.close()


def begin_post(connection: HTTPConnection, secret: str, body: bytes) -> None:
    connection.request("POST", "/v1/messages", body, {"x-api-key": secret, **HEADERS})


def answer_on(connection: HTTPConnection) -> tuple[HTTPResponse, dict[str, str]]:
    answer = connection.getresponse()
    return answer, json.loads(answer.read())


@contextlib.contextmanager
def drained(running: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the gateway end beside what the context does; the calls that it holds may take their time."""
    began = list[None]()
    drain = server._drain

    async def noted(gateway: Gateway) -> None:
        began.append(None)
        await drain(gateway)

    monkeypatch.setattr(server, "_drain", noted)
    with at_once(1) as begin:
        ended = begin(running.close)
        until(lambda: began)
        yield
        ended.result()


def test_a_call_on_a_connection_that_was_being_made_is_refused(
    run_gateway: RunGateway, secret: str, idle_carpool: WorkingCarpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a connection that is not among those that are told of the end
    monkeypatch.setattr(web.Server, "pre_shutdown", lambda _: None)
    with contextlib.ExitStack() as running:
        url = running.enter_context(run_gateway(gateway_drain=30.0))
        with connected(url) as holding, connected(url) as late:
            begin_post(holding, secret, body_of("held"))
            until(lambda: idle_carpool.queued() == 1)

            with drained(running, monkeypatch):
                begin_post(late, secret, body_of("late"))
                answer, error = answer_on(late)
                queued = idle_carpool.queued()
                with at_work(idle_carpool):
                    assert answer_on(holding)[1]["type"] == "message"

    assert (answer.status, answer.getheader("retry-after"), queued) == (503, "1", 1)
    assert error["type"] == "error"


def test_a_call_whose_body_is_still_arriving_is_accepted_and_answered(
    run_gateway: RunGateway, secret: str, idle_carpool: WorkingCarpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a call of whose body one half has come
    begun = list[None]()
    take_place = Gateway.take_place

    def noted(gateway: Gateway) -> None:
        take_place(gateway)
        begun.append(None)

    monkeypatch.setattr(Gateway, "take_place", noted)
    body = body_of("in two halves")
    with contextlib.ExitStack() as running:
        url = running.enter_context(run_gateway(gateway_drain=30.0))
        with connected(url) as arriving:
            arriving.putrequest("POST", "/v1/messages")
            for name, value in {"x-api-key": secret, "content-length": str(len(body)), **HEADERS}.items():
                arriving.putheader(name, value)
            arriving.endheaders(body[: len(body) // 2])
            until(lambda: begun)

            # When the gateway is to end, and the rest comes
            with drained(running, monkeypatch):
                arriving.send(body[len(body) // 2 :])
                with at_work(idle_carpool):
                    answer, message = answer_on(arriving)

            # Then it is answered
            assert (answer.status, message["type"]) == (200, "message")
    assert idle_carpool.rows("SELECT count(*) FROM requests") == [(1,)]
