"""What a result says of its usage is read field by field: no odd one takes the others with it."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carpool_worker.claude.results import parse
from carpool_worker.claude.usage import Message, read_message
from carpool_worker.money.costs import CacheCreation, ServerTools, Tokens, price_of

MODEL = "claude-haiku-4-5"
WHOLE = {
    "input_tokens": 1_000,
    "output_tokens": 200,
    "cache_creation_input_tokens": 30,
    "cache_read_input_tokens": 40,
    "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
    "server_tool_use": {"web_search_requests": 2},
    "inference_geo": "us",
}
TOKENS = Tokens(1_000, 200, 30, 40, CacheCreation(10, 20), ServerTools(2), "us")
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def result(usage: Any, **message: Any) -> bytes:
    return json.dumps({"type": "succeeded", "message": {"model": MODEL, "usage": usage} | message}).encode()


def read(body: bytes) -> tuple[Message | None, bool]:
    """Read a line with this result as the collector does."""
    [found] = parse([b'{"custom_id":"a","result":%b}' % body]).values()
    return found.parsed.message, found.is_countable


@pytest.mark.parametrize("odd", [1_000.0, "1000", 1_000])
def test_a_count_that_is_written_oddly_is_read(odd: Any) -> None:
    assert read(result(WHOLE | {"input_tokens": odd})) == (Message(TOKENS, MODEL), True)


@pytest.mark.parametrize("name", ["cache_creation", "server_tool_use", "cache_read_input_tokens"])
def test_a_detail_that_is_null_means_none_of_it(name: str) -> None:
    # Given a null, and another oddity, so that the fields are read one by one
    message, is_countable = read(result(WHOLE | {name: None, "output_tokens": 200.0}))

    nothing = 0 if name == "cache_read_input_tokens" else None
    assert is_countable
    assert message
    assert message.usage == msgspec.structs.replace(TOKENS, **{name: nothing})


@pytest.mark.parametrize("odd", [None, 1.5, -1, "many", True, [], {}, 10**12, 10**40])
@pytest.mark.parametrize("name", ["input_tokens", "output_tokens"])
def test_a_count_that_cant_be_read_takes_none_of_the_others_with_it(name: str, odd: Any) -> None:
    message, is_countable = read(result(WHOLE | {name: odd}))

    assert message == Message(
        Tokens(
            0 if name == "input_tokens" else 1_000,
            0 if name == "output_tokens" else 200,
            *(30, 40, CacheCreation(10, 20), ServerTools(2), "us"),
        ),
        MODEL,
    )
    assert not is_countable


def test_what_is_missing_of_the_counts_is_not_taken_for_nothing() -> None:
    assert read(result({"output_tokens": 200})) == (Message(Tokens(0, 200, 0, 0), MODEL), False)
    assert read(result({})) == (Message(Tokens(0, 0, 0, 0), MODEL), False)
    for nothing in ("none", 4, True):
        assert read(result(nothing)) == (Message(Tokens(0, 0), MODEL), False)


@pytest.mark.parametrize("odd", [None, 4, ""])
def test_without_a_model_its_requests_counts(odd: Any) -> None:
    message, is_countable = read(result(WHOLE, model=odd))

    assert is_countable
    assert message
    assert message.usage == TOKENS
    assert price_of(message.usage, message.model or MODEL, date(2026, 11, 1))


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from([*WHOLE, "model"]), anything), anything)
def test_nothing_in_a_usage_costs_an_answer(odd: dict[str, Any], detail: Any) -> None:
    usage = WHOLE | odd | {"cache_creation": {"ephemeral_5m_input_tokens": detail}}

    message, _ = read_message(result(usage, **({"model": odd["model"]} if "model" in odd else {})))

    assert message
    assert message.usage.input_tokens in (0, 1_000) or "input_tokens" in odd


def test_a_message_nested_deeper_than_can_be_read_is_not_read() -> None:
    deep = b'{"type":"succeeded","message":{"usage":' + b"[" * 5_000 + b"]" * 5_000 + b"}}"

    assert read_message(deep) == (None, False)
