"""A stream's events: what the SDK puts together from them is the Message that they were made from."""

from __future__ import annotations

import json
from typing import Any

from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from carpool_worker.gateway.events import events_of

EVENT: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
TOKENS = st.integers(0, 10**6)
INPUTS = st.dictionaries(
    TEXT,
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | TEXT,
        lambda children: st.lists(children, max_size=3) | st.dictionaries(TEXT, children, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)
CITATION = st.fixed_dictionaries(
    {
        "type": st.just("char_location"),
        "cited_text": TEXT,
        "document_index": st.integers(0, 9),
        "document_title": st.none() | TEXT,
        "file_id": st.none(),
        "start_char_index": TOKENS,
        "end_char_index": TOKENS,
    }
)
BLOCK = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("text"), "text": TEXT},
        optional={"citations": st.none() | st.lists(CITATION, min_size=1, max_size=3)},
    ),
    st.fixed_dictionaries({"type": st.just("tool_use"), "id": TEXT, "name": TEXT, "input": INPUTS}),
    st.fixed_dictionaries(
        {
            "type": st.just("server_tool_use"),
            "id": TEXT,
            "name": st.just("web_search"),
            "input": INPUTS,
        }
    ),
    st.fixed_dictionaries({"type": st.just("thinking"), "thinking": TEXT, "signature": TEXT}),
    st.fixed_dictionaries({"type": st.just("redacted_thinking"), "data": TEXT}),
)
USAGE = st.fixed_dictionaries(
    {
        "input_tokens": TOKENS,
        "output_tokens": TOKENS,
        "cache_creation_input_tokens": st.none() | TOKENS,
        "cache_read_input_tokens": st.none() | TOKENS,
        "service_tier": st.just("batch"),
    },
    optional={
        "cache_creation": st.fixed_dictionaries(
            {"ephemeral_5m_input_tokens": TOKENS, "ephemeral_1h_input_tokens": TOKENS}
        ),
        "server_tool_use": st.none()
        | st.fixed_dictionaries({"web_search_requests": TOKENS, "web_fetch_requests": TOKENS}),
        "inference_geo": st.none() | TEXT,
    },
)
MESSAGE = st.fixed_dictionaries(
    {
        "id": st.just("msg_01"),
        "type": st.just("message"),
        "role": st.just("assistant"),
        "model": st.just("claude-haiku-4-5"),
        "content": st.lists(BLOCK, max_size=5),
        "stop_reason": st.sampled_from(["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]),
        "stop_sequence": st.none() | TEXT,
        "usage": USAGE,
    },
    optional={
        "container": st.none()
        | st.fixed_dictionaries({"id": TEXT, "expires_at": st.just("2026-11-30T12:00:00Z")}),
        "stop_details": st.none()
        | st.fixed_dictionaries(
            {"type": st.just("refusal"), "category": st.none() | st.just("cyber"), "explanation": TEXT}
        ),
    },
)


def accumulated(events: list[bytes]) -> Message:
    """Put a Message together as the SDK does."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for one in events:
        fields = json.loads(one.decode().split("data: ", 1)[1])
        event = EVENT.validate_python(fields)
        snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)
    return Message.construct(**snapshot.to_dict())


@settings(deadline=None)  # the SDK imports much at its first event
@given(MESSAGE)
def test_what_the_sdk_accumulates_is_the_message(message: dict[str, Any]) -> None:
    events = list(events_of(json.dumps(message).encode()))

    expected = Message.construct(**message)
    assert accumulated(events).model_dump() == expected.model_dump()


@settings(deadline=None)  # the SDK imports much at its first event
@given(MESSAGE)
def test_each_event_is_two_lines_and_its_name_is_its_type(message: dict[str, Any]) -> None:
    for one in events_of(json.dumps(message).encode()):
        name, data, *rest = one.decode().split("\n")
        assert rest == ["", ""]
        assert json.loads(data.removeprefix("data: "))["type"] == name.removeprefix("event: ")


def test_a_block_that_nobody_knows_is_whole_in_its_start() -> None:
    block = {"type": "of_tomorrow", "precise": "1.10", "deep": {"a": [1]}}

    events = list(events_of(json.dumps({"content": [block]}).encode()))

    start = json.loads(events[1].decode().split("data: ", 1)[1])
    assert start == {"type": "content_block_start", "index": 0, "content_block": block}
    assert b"content_block_stop" in events[2]


def test_no_null_citations_are_sent() -> None:
    message = {"content": [{"type": "text", "text": "Hi", "citations": None}]}

    assert not any(b"citations" in one for one in events_of(json.dumps(message).encode()))


def test_a_tools_input_is_passed_on_in_its_own_bytes() -> None:
    tool = (
        b'{"type": "tool_use", "id": "t", "name": "n", "input": {"big": 12345678901234567890123, "x": 1.10}}'
    )

    [delta] = [one for one in events_of(b'{"content": [%b]}' % tool) if b"content_block_delta" in one]

    partial = json.loads(delta.decode().split("data: ", 1)[1])["delta"]["partial_json"]
    assert partial == '{"big": 12345678901234567890123, "x": 1.10}'
