"""Marking a prefix for the cache: the mark and nothing else, whatever the params are."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from carpool_worker.prompt_cache.marking import MARK_BYTES, can_be_marked, mark
from carpool_worker.prompt_cache.prefixes import prefix_of

MARK = {"type": "ephemeral", "ttl": "1h"}
HELLO = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}]}

text = st.text(min_size=1)
blocks = st.fixed_dictionaries({"type": st.just("text"), "text": text}, optional={"citations": st.none()})
tools = st.fixed_dictionaries({"name": text, "input_schema": st.dictionaries(text, st.integers() | text)})
params = st.fixed_dictionaries(
    {"model": text, "messages": st.lists(st.dictionaries(text, text))},
    optional={"system": text | st.lists(blocks), "tools": st.lists(tools), "metadata": st.floats(-1, 1)},
)


def marked(fields: dict[str, Any]) -> dict[str, Any]:
    body = json.dumps(fields).encode()
    found: dict[str, Any] = json.loads(mark(body, {prefix_of(body) or ""}))
    return found


def unmarked(value: Any) -> Any:
    if isinstance(value, list):
        return [unmarked(one) for one in value]
    if isinstance(value, dict):
        return {name: unmarked(one) for name, one in value.items() if (name, one) != ("cache_control", MARK)}
    return value


@settings(max_examples=100, deadline=None)
@given(params)
def test_marked_params_say_the_same_and_differ_in_one_cache_control_alone(fields: dict[str, Any]) -> None:
    body = json.dumps(fields, ensure_ascii=False).encode()

    found = json.loads(mark(body, {prefix_of(body) or ""}))

    if isinstance(fields.get("system"), str):
        fields = fields | {"system": [{"type": "text", "text": fields["system"]}]}
    assert json.dumps(found).count(json.dumps(MARK)) == (bool(fields.get("system") or fields.get("tools")))
    assert unmarked(found) == fields
    assert len(mark(body, {prefix_of(body) or ""})) <= len(body) + MARK_BYTES


def test_the_mark_is_on_the_last_block_of_the_system_prompt_or_on_the_last_tool() -> None:
    tool, later = {"name": "look"}, {"name": "rarely", "defer_loading": True}
    first, last, image = {"type": "text", "text": "A"}, {"type": "text", "text": "B"}, {"type": "image"}
    blank = {"type": "text", "text": ""}

    assert marked({"system": "A", "tools": [tool]})["system"] == [first | {"cache_control": MARK}]
    assert marked({"system": [first, last]})["system"] == [first, last | {"cache_control": MARK}]
    assert marked({"system": [last, image, blank]})["system"] == [
        last | {"cache_control": MARK},
        image,
        blank,
    ]
    assert marked({"system": "", "tools": [tool, later]})["tools"] == [tool | {"cache_control": MARK}, later]


@pytest.mark.parametrize(
    "fields",
    [
        HELLO,
        {"system": ""},
        {"system": []},
        {"system": None},
        {"system": 5},
        {"system": {"type": "text"}},
        {"system": ["A"]},
        {"tools": [{"name": "rarely", "defer_loading": True}]},
        {"tools": "A"},
    ],
    ids=str,
)
def test_params_without_a_place_for_the_mark_stay_as_they_are(fields: dict[str, Any]) -> None:
    body = json.dumps(fields, indent=1).encode()

    assert mark(body, {prefix_of(body) or ""}) == body
    assert not can_be_marked(body)


def test_other_prefixes_and_what_a_client_marked_stay_byte_for_byte() -> None:
    other = json.dumps(HELLO | {"system": "A"}, indent=1).encode()
    own = json.dumps(HELLO | {"system": "A", "cache_control": {"type": "ephemeral"}}).encode()

    assert mark(other, {"0" * 16}) == other
    assert can_be_marked(other)
    assert not can_be_marked(own)
    assert mark(own, {prefix_of(other) or ""}) == own
