"""The simulator lists models and counts tokens, as the SDK asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic

from carpool_worker.simulator import Fault, RemoteSimulator

Write = Callable[..., dict[str, Any]]
Read = Callable[[Anthropic, str], Any]


def test_all_models_are_listed_newest_first_and_by_pages(claude: Anthropic) -> None:
    # When
    models = list(claude.models.list(limit=1))
    # Then
    assert len(models) == 3
    assert [model.created_at for model in models] == sorted(
        (model.created_at for model in models), reverse=True
    )
    assert {(model.type, model.lifecycle) for model in models} == {("model", "active")}
    assert [model.id for model in claude.models.list(before_id=models[1].id)] == [models[0].id]


def test_a_model_is_found_by_its_id_and_by_its_alias(claude: Anthropic) -> None:
    model = claude.models.retrieve("claude-haiku-4-5")
    assert model == claude.models.retrieve(model.id)
    assert (model.display_name, model.line, model.max_tokens) == ("Claude Haiku 4.5", "haiku", 64_000)


def test_unknown_models_are_not_found(claude: Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="model: claude-unheard-of"):
        claude.models.retrieve("claude-unheard-of")
    with pytest.raises(anthropic.BadRequestError, match="cursor"):
        claude.models.list(after_id="claude-unheard-of")


def test_as_many_tokens_are_counted_as_the_answer_is_billed_by(
    claude: Anthropic, request_of: Write, results: Read
) -> None:
    # Given
    tool = {"name": "look", "description": "word " * 50, "input_schema": {"type": "object"}}
    request: Any = request_of("r", "word " * 100, system="Be kind.", tools=[tool])
    prompt = {name: value for name, value in request["params"].items() if name != "max_tokens"}
    # When
    counted = claude.messages.count_tokens(**prompt)
    billed = results(claude, claude.messages.batches.create(requests=[request]).id)["r"].message.usage
    # Then
    assert counted.input_tokens == billed.input_tokens > 150


@pytest.mark.parametrize(
    ("prompt", "status", "problem"),
    [
        ({"messages": []}, 400, "model: Field required"),
        ({"model": "claude-haiku-4-5"}, 400, "messages: Field required"),
        ({"model": "claude-haiku-4-5", "messages": []}, 400, "messages: at least one message is required"),
        ({"model": "claude-haiku-4-5", "messages": 7}, 400, "messages: "),
        ({"model": "gpt", "messages": [{"role": "user", "content": "Hi"}]}, 404, "model: gpt"),
    ],
)
def test_tokens_of_an_invalid_prompt_are_not_counted(
    claude: Anthropic, prompt: dict[str, Any], status: int, problem: str
) -> None:
    with pytest.raises(anthropic.APIStatusError, match=problem) as refusal:
        claude.post("/v1/messages/count_tokens", body=prompt, cast_to=object)
    assert refusal.value.status_code == status


def test_faults_strike_these_calls_too(claude: Anthropic, simulator: RemoteSimulator) -> None:
    simulator.arm(Fault(operation="list_models", kind="error", status=529))
    with pytest.raises(anthropic.InternalServerError, match="Overloaded"):
        claude.models.list()
    assert claude.models.list().data
