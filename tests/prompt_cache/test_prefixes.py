"""Which requests share a prefix, and from which length a model caches it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from carpool_worker.prompt_cache.prefixes import prefix_of, shortest

PARAMS: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}]}
SYSTEM = {"system": "Be brief."}
MARKED = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]


def prefix(**fields: Any) -> str | None:
    return prefix_of(json.dumps(PARAMS | fields).encode())


def test_requests_with_the_same_tools_and_system_prompt_begin_alike_whatever_comes_after() -> None:
    found = prefix(**SYSTEM)

    assert found is not None
    assert len(found) == 16
    other = {
        "max_tokens": 1,
        "tool_choice": {"type": "any"},
        "thinking": {"type": "adaptive"},
        "messages": [],
    }
    assert prefix(**SYSTEM, **other) == found
    assert prefix_of(json.dumps({**SYSTEM, **PARAMS}).encode()) == found


@pytest.mark.parametrize(
    "fields",
    [
        {"system": "Be brief, please."},
        {"tools": ["Be brief."]},
        {**SYSTEM, "tools": []},
        {**SYSTEM, "output_config": {"format": {"type": "json_schema"}}},
        {**SYSTEM, "mcp_servers": [{"name": "wiki"}]},
        {**SYSTEM, "cache_control": {"type": "ephemeral"}},
        {"system": MARKED},
    ],
    ids=lambda fields: " ".join(fields),
)
def test_what_changes_the_cached_text_or_marks_it_is_another_beginning(fields: dict[str, Any]) -> None:
    assert prefix(**fields) not in (None, prefix(**SYSTEM))


@pytest.mark.parametrize(
    "params", [b"{}", b"[]", b"", b"\xff", b'{"system":', b"[" * 100_000, json.dumps(PARAMS).encode()]
)
def test_params_without_a_beginning_or_that_cannot_be_read_have_none(params: bytes) -> None:
    assert prefix_of(params) is None


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("claude-opus-5-5", 512),
        ("claude-sonnet-4-6", 1_024),
        ("claude-opus-4-8", 1_024),
        ("claude-opus-4-7", 2_048),
        ("claude-haiku-4-5-20251001", 4_096),
        ("claude-unheard-of", 4_096),
    ],
)
def test_the_shortest_prefix_is_the_models(model: str, tokens: int) -> None:
    assert shortest(model) == tokens
