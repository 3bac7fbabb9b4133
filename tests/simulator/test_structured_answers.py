"""Where a request demands a call of a tool or JSON of a schema, the simulated answer has that form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from anthropic import Anthropic
from pydantic import BaseModel, Field

from carpool_worker.simulator import RemoteSimulator, Script
from carpool_worker.simulator.json_examples import NoExampleError, example_of

Write = Callable[..., dict[str, Any]]
Read = Callable[[Anthropic, str], Any]


class Address(BaseModel):
    """A part of Person, to whose definition the schema refers."""

    city: str = Field(min_length=20)
    since: int = Field(gt=1_990, multiple_of=5)


class Person(BaseModel):
    """What the schemas of these tests describe."""

    name: str
    age: float | None
    addresses: list[Address] = Field(min_length=2)
    friends: list[Person]


def run(claude: Anthropic, results: Read, *requests: dict[str, Any]) -> dict[str, Any]:
    """Run requests in one batch, and return their results by custom_id."""
    written: Any = requests
    return dict(results(claude, claude.messages.batches.create(requests=written).id))


def tool(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "description": "What it does.", "input_schema": schema}


def test_a_tool_that_must_be_called_is_called_with_valid_input(
    claude: Anthropic, request_of: Write, results: Read
) -> None:
    # Given
    tools = [tool("look", {"type": "object"}), tool("save", Person.model_json_schema())]
    named = request_of("named", tools=tools, tool_choice={"type": "tool", "name": "save"})
    # When
    message = run(claude, results, named)["named"].message
    # Then
    (call,) = message.content
    assert (message.stop_reason, call.type, call.name) == ("tool_use", "tool_use", "save")
    assert call.id.startswith("toolu_")
    assert len(Person.model_validate(call.input).addresses) == 2


def test_any_tool_is_first_one_and_then_another(claude: Anthropic, request_of: Write, results: Read) -> None:
    # Given a conversation in which the first tool was called already
    tools = [tool("look", {"type": "object"}), tool("save", {"type": "object"})]
    called = [
        {"role": "user", "content": "Hello"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "seen"}]},
    ]
    demand: dict[str, Any] = {"tools": tools, "tool_choice": {"type": "any"}}
    # When
    answers = run(
        claude, results, request_of("first", **demand), request_of("next", **demand, messages=called)
    )
    # Then
    assert answers["first"].message.content[0].name == "look"
    assert answers["next"].message.content[0].name == "save"


@pytest.mark.parametrize("choice", [{"type": "auto"}, {"type": "none"}, ...])
def test_where_no_tool_must_be_called_the_answer_is_text(
    claude: Anthropic, request_of: Write, results: Read, choice: Any
) -> None:
    free = request_of("r", tools=[tool("look", {"type": "object"})], tool_choice=choice)
    message = run(claude, results, free)["r"].message
    assert (message.stop_reason, message.content[0].type) == ("end_turn", "text")


def test_a_tool_that_is_not_there_is_an_error(claude: Anthropic, request_of: Write, results: Read) -> None:
    choice = {"type": "tool", "name": "gone"}
    without = request_of("without", tool_choice=choice)
    wrong = request_of("wrong", tool_choice=choice, tools=[tool("look", {"type": "object"})])
    answers = run(claude, results, without, wrong)
    assert "while providing tools" in answers["without"].error.error.message
    assert "'gone' not found" in answers["wrong"].error.error.message


@pytest.mark.parametrize("field", ["output_config", "output_format"])
def test_an_answer_of_a_schema_is_json_that_is_valid(
    claude: Anthropic, request_of: Write, results: Read, field: str
) -> None:
    # Given
    form = {"type": "json_schema", "schema": Person.model_json_schema()}
    demand = {field: {"format": form} if field == "output_config" else form}
    # When
    message = run(claude, results, request_of("r", **demand))["r"].message
    # Then
    assert Person.model_validate_json(message.content[0].text).friends == []


def test_a_schema_that_nothing_fits_is_an_error(claude: Anthropic, request_of: Write, results: Read) -> None:
    endless = {"type": "object", "properties": {"self": {"$ref": "#"}}, "required": ["self"]}
    form = {"format": {"type": "json_schema", "schema": endless}}
    error = run(claude, results, request_of("r", output_config=form))["r"].error.error
    assert error.type == "invalid_request_error"
    assert error.message == "output_config.format.schema: # contains itself without end"


def test_texts_have_no_null_citations(
    claude: Anthropic, simulator: RemoteSimulator, request_of: Write, results: Read
) -> None:
    # Some clients refuse them: `"citations": null` fails the zod schemas of Vercel's AI SDK
    batch = claude.messages.batches.create(requests=[request_of("r")])  # type: ignore[list-item]
    results(claude, batch.id)
    lines = claude.get(f"/v1/messages/batches/{batch.id}/results", cast_to=str)
    assert "[simulated]" in lines
    assert "citations" not in lines


def test_a_script_dictates_the_blocks_of_an_answer(
    claude: Anthropic, simulator: RemoteSimulator, request_of: Write, results: Read
) -> None:
    # Given
    blocks: list[dict[str, Any]] = [
        {"type": "thinking", "thinking": "Hm.", "signature": "c2lnbmVk"},
        {"type": "text", "text": "Yes.", "citations": []},
    ]
    simulator.script(Script(content=blocks))
    # When
    message = run(claude, results, request_of("r"))["r"].message
    # Then
    assert [block.to_dict() for block in message.content] == blocks
    assert message.stop_reason == "end_turn"


SCHEMAS: list[Any] = [
    {},
    True,
    {"type": "object", "required": ["any"]},
    {"type": ["null", "string"]},
    {"const": {"a": [1]}},
    {"enum": ["red", "green"]},
    {"anyOf": [False, {"type": "boolean"}]},
    {"oneOf": [{"type": "integer", "minimum": 7}, {"type": "null"}]},
    {
        "allOf": [{"required": ["a"]}, {"required": ["b"], "properties": {"b": {"const": 1}}}],
        "type": "object",
    },
    {"type": "array", "items": {"type": "null"}},
    {"type": "array", "maxItems": 0},
    {
        "type": "array",
        "minItems": 3,
        "prefixItems": [{"const": 1}, {"type": "null"}],
        "items": {"type": "string"},
    },
    {"type": "string", "minLength": 40, "maxLength": 41},
    {"type": "string", "maxLength": 3},
    {"type": "integer", "exclusiveMinimum": 3, "multipleOf": 4},
    {"type": "integer", "maximum": -3, "multipleOf": 2},
    {"type": "integer", "minimum": 2.5, "exclusiveMaximum": 4},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    {"type": "number", "minimum": 5},
    {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "integer", "minimum": 3}}},
    *({"type": "string", "format": name} for name in ("date", "date-time", "email", "ipv4", "ipv6", "uuid")),
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_examples_are_valid(schema: Any) -> None:
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(schema, format_checker=checker).validate(example_of(schema))


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"type": "integer", "minimum": 3, "maximum": 2},
        {"$ref": "https://elsewhere.example.com/schema"},
        {"$ref": "#/$defs/gone"},
        {"type": "unheard-of"},
        {"anyOf": [False, False]},
        {"enum": []},
        3,
    ],
    ids=str,
)
def test_schemas_without_an_example_are_errors(schema: Any) -> None:
    with pytest.raises(NoExampleError):
        example_of(schema)
