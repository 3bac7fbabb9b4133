"""POST /v1/messages that waits: unchanged programs get their Message, or the error that the API would give them."""

from __future__ import annotations

import asyncio
import json

import anthropic
import pytest
from tests.fixtures.agents import request
from tests.fixtures.gateway import CLIENT, ON_BOTH, RunGateway, WorkingCarpool, at_work
from tests.fixtures.gateway_calls import post, sdk
from tests.fixtures.waiting import until

from carpool.segments import unpack
from carpool_worker.simulator import RemoteSimulator
from carpool_worker.simulator.scripts import Script


def test_the_sdk_gets_its_message(
    gateway: str, secret: str, working_carpool: WorkingCarpool, simulator: RemoteSimulator
) -> None:
    with sdk(gateway, secret) as client:
        message = client.messages.create(**request("Hello there"))

    assert message.content[0].type == "text"
    assert "Hello there" in message.content[0].text
    assert message.usage.service_tier == "batch"
    assert simulator.ledger()["billed"] == 1
    assert working_carpool.rows("SELECT client FROM requests") == [(CLIENT,)]


def test_the_async_sdk_gets_its_messages_from_one_batch(
    run_gateway: RunGateway, secret: str, idle_carpool: WorkingCarpool, simulator: RemoteSimulator
) -> None:
    async def ask(url: str) -> list[str]:
        async with anthropic.AsyncAnthropic(base_url=url, api_key=secret) as client:
            calls = [client.messages.create(**request(f"Question {n}")) for n in range(20)]
            asked = asyncio.gather(*calls)
            return [message.content[0].text for message in await asked if message.content[0].type == "text"]

    with run_gateway() as url, at_work(idle_carpool):
        texts = asyncio.run(ask(url))

    assert [f"Question {n}" in text for n, text in enumerate(texts)] == [True] * 20
    assert simulator.ledger()["billed"] == 20
    assert simulator.ledger()["batches"] < 20


@ON_BOTH
def test_the_message_comes_byte_for_byte_as_the_api_wrote_it(
    gateway: str, secret: str, working_carpool: WorkingCarpool
) -> None:
    status, headers, body = post(gateway, secret, request())

    assert status == 200
    [[stored]] = working_carpool.rows("SELECT body FROM answers")
    [result] = unpack(bytes(stored))
    assert body in result
    assert body.startswith(b'{"id":"msg_')
    assert headers["x-carpool-request-id"] == working_carpool.rows("SELECT id FROM requests")[0][0]
    assert float(headers["x-carpool-cost"]) == pytest.approx(float(headers["x-carpool-saved"]))
    assert headers["request-id"].startswith("req_")


def test_requests_know_the_key_that_they_came_with(
    gateway: str, secret: str, working_carpool: WorkingCarpool
) -> None:
    post(gateway, secret, request())

    assert working_carpool.rows("SELECT gateway_key FROM segments") == [(CLIENT,)]


def test_what_breaks_a_rule_is_refused_at_the_door(gateway: str, secret: str) -> None:
    with sdk(gateway, secret) as client, pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        client.messages.create(**request() | {"max_tokens": 0})


@pytest.mark.parametrize("wrong", ["", "cr_wrong", "cr_" + "0" * 43])
def test_without_a_valid_key_nothing_is_served(gateway: str, wrong: str) -> None:
    status, headers, body = post(gateway, wrong, request())

    assert status == 401
    error = json.loads(body)
    assert error["error"]["type"] == "authentication_error"
    assert error["request_id"] == headers["request-id"]


@ON_BOTH
def test_an_error_of_the_api_has_its_status_and_is_not_tried_again(
    gateway: str, secret: str, working_carpool: WorkingCarpool, simulator: RemoteSimulator
) -> None:
    simulator.script(Script(outcome="errored", error_type="invalid_request_error", message="model: no such"))

    with sdk(gateway, secret) as client, pytest.raises(anthropic.BadRequestError, match="no such") as refused:
        client.messages.create(**request())

    assert refused.value.response.headers["x-should-retry"] == "false"
    assert until(lambda: simulator.ledger()["requests_run"] == 1)
