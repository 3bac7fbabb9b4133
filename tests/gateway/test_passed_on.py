"""What the gateway passes on to the API with the operator's key: models, and how many tokens a prompt has."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest
import sqlalchemy as sa
from tests.fixtures.agents import request
from tests.fixtures.gateway import RunGateway, new_key
from tests.fixtures.gateway_calls import call, get, sdk

from carpool_worker.simulator import Fault, RemoteSimulator
from carpool_worker.simulator.models import NEWEST_FIRST

PROMPT: Any = {name: value for name, value in request("Hello there").items() if name != "max_tokens"}
COUNT = "/v1/messages/count_tokens"


def test_tokens_are_counted_with_the_operators_key(
    gateway: str, secret: str, simulator: RemoteSimulator
) -> None:
    # Given that the API knows the caller's key as little as it would
    simulator.assign({secret: None})

    # Then its answer comes through nevertheless, and nothing was run
    with sdk(gateway, secret) as client:
        counted = client.messages.count_tokens(**PROMPT, system="Be kind. " * 100)
    assert counted.input_tokens == (len("Hello there") + len("Be kind. ") * 100) // 4
    assert simulator.ledger()["requests_run"] == 0


def test_all_models_are_listed_page_by_page(gateway: str, secret: str, simulator: RemoteSimulator) -> None:
    with sdk(gateway, secret) as client:
        assert [model.id for model in client.models.list(limit=1)] == [model.id for model in NEWEST_FIRST]
        assert client.models.retrieve("claude-haiku-4-5").id == "claude-haiku-4-5-20251001"


def test_a_key_sees_the_models_that_it_may_use(
    gateway: str, gateway_engine: sa.Engine, simulator: RemoteSimulator
) -> None:
    # Given a key for one model by its alias, and for others by a pattern
    secret = new_key(gateway_engine, models=["claude-haiku-4-5", "claude-opus-*"])

    # Then the list has those alone, in pages that go on to its end
    opus, haiku, sonnet = (model.id for model in NEWEST_FIRST)
    with sdk(gateway, secret) as client:
        assert [model.id for model in client.models.list(limit=1)] == [opus, haiku]
        assert [model.id for model in client.models.list(before_id=haiku).data] == [opus]
        assert client.models.list(after_id=haiku).data == []
        assert client.models.retrieve("claude-haiku-4-5").id == haiku
        with pytest.raises(anthropic.NotFoundError, match=f"model: {sonnet}"):
            client.models.retrieve(sonnet)
        with pytest.raises(anthropic.PermissionDeniedError, match="may not use the model"):
            client.messages.count_tokens(**PROMPT | {"model": sonnet})
        with pytest.raises(anthropic.BadRequestError, match="limit: must be a whole number from 1 to"):
            client.models.list(limit=0)
        with pytest.raises(anthropic.BadRequestError, match="must be the id of a model"):
            client.models.list(after_id=sonnet)


def test_errors_of_the_api_come_as_they_are(gateway: str, secret: str, simulator: RemoteSimulator) -> None:
    with sdk(gateway, secret, max_retries=0) as client:
        with pytest.raises(anthropic.NotFoundError, match="model: gpt"):
            client.messages.count_tokens(**PROMPT | {"model": "gpt"})
        simulator.arm(Fault(operation="count_tokens", kind="error", status=429, retry_after=3_000))
        with pytest.raises(anthropic.RateLimitError) as refusal:
            client.messages.count_tokens(**PROMPT)
    # The SDK obeys this header, so it is kept within bounds
    assert refusal.value.response.headers["retry-after"] == "30"


@pytest.mark.parametrize("kind", ["dropped", "page"])
def test_an_api_that_does_not_answer_is_a_bad_gateway(
    gateway: str, secret: str, simulator: RemoteSimulator, kind: Any
) -> None:
    simulator.arm(Fault(operation="count_tokens", kind=kind))
    answer = call(gateway, secret, "POST", COUNT, json.dumps(PROMPT).encode())
    assert (answer.status, answer.error_type) == (502, "api_error")


def test_the_operators_key_is_not_the_callers(gateway: str, secret: str, simulator: RemoteSimulator) -> None:
    # Given that the API refuses the operator's key; the caller's own is right, so that it is no 401
    simulator.assign({"sk-ant-simulated": None})
    answer = get(gateway, secret, "/v1/models")
    assert (answer.status, answer.error_type) == (502, "api_error")
    assert "sk-ant" not in answer.body.decode()


@pytest.mark.parametrize(
    ("body", "problem"),
    [(b"{", "not valid JSON"), (b"[]", "JSON object"), (b'{"messages": []}', "model: must be text")],
)
def test_a_prompt_that_is_none_is_refused(gateway: str, secret: str, body: bytes, problem: str) -> None:
    answer = call(gateway, secret, "POST", COUNT, body)
    assert answer.status == 400
    assert problem in answer.json["error"]["message"]


def test_each_clients_calls_go_to_its_own_account(
    run_gateway: RunGateway,
    gateway_engine: sa.Engine,
    simulator: RemoteSimulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given an account for one client, whose key the API refuses
    monkeypatch.setenv("LABS_KEY", "sk-ant-labs")
    simulator.assign({"sk-ant-labs": None})
    accounts = {"labs": {"api_key": "env:LABS_KEY", "clients": ["labs"]}}
    with run_gateway(accounts=accounts) as url:
        statuses = [
            get(url, new_key(gateway_engine, client=client), "/v1/models").status
            for client in ("labs", "shop")
        ]
    assert statuses == [502, 200]
