"""The simulated answers: their tokens, what is cached of their prompts, and a text that suits the prompt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from anthropic import Anthropic

Write = Callable[..., dict[str, Any]]
Read = Callable[[Anthropic, str], Any]


def test_answers_end_at_max_tokens(claude: Anthropic, request_of: Write, results: Read) -> None:
    # Given
    requests: Any = [request_of("r", "word " * 100, max_tokens=5)]
    # When
    message = results(claude, claude.messages.batches.create(requests=requests).id)["r"].message
    # Then
    assert message.stop_reason == "max_tokens"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (125, 5)


def test_a_marked_prefix_is_written_to_the_cache_once_and_read_afterwards(
    claude: Anthropic, request_of: Write, results: Read
) -> None:
    # Given
    cached = {"type": "text", "text": "word " * 1_000, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    requests: Any = [request_of(f"r{number}", system=[cached]) for number in range(3)]
    # When
    answers = results(claude, claude.messages.batches.create(requests=requests).id)
    # Then
    usages = [answer.message.usage for answer in answers.values()]
    assert [usage.cache_creation_input_tokens for usage in usages] == [1_250, 0, 0]
    assert [usage.cache_read_input_tokens for usage in usages] == [0, 1_250, 1_250]
    assert usages[0].cache_creation.ephemeral_1h_input_tokens == 1_250
    assert {usage.input_tokens for usage in usages} == {1}


def test_tools_belong_to_the_prefix_and_a_system_prompt_in_front_of_the_mark_too(
    claude: Anthropic, request_of: Write, results: Read
) -> None:
    # Given
    marked = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    tool = {"name": "look", "description": "word " * 1_000, "input_schema": {}}
    text = [{"role": "user", "content": [{"type": "text", "text": "word " * 1_000, **marked}]}]
    requests: Any = [request_of(f"t{n}", tools=[tool | marked]) for n in range(2)]
    requests += [request_of(system, system=system, messages=text) for system in ("A", "B")]
    # When
    answers = results(claude, claude.messages.batches.create(requests=requests).id)
    # Then
    read = {custom_id: answer.message.usage.cache_read_input_tokens for custom_id, answer in answers.items()}
    assert sorted([read["t0"], read["t1"]]) == [0, 1_252]
    assert (read["A"], read["B"]) == (0, 0)


@pytest.mark.parametrize(
    ("review", "sentiment"),
    [
        ("I love it, works great", "positive"),
        ("Broken and useless", "negative"),
        ("It is a chair", "neutral"),
    ],
)
def test_reviews_are_classified_by_their_words(
    claude: Anthropic, request_of: Write, results: Read, review: str, sentiment: str
) -> None:
    # Given
    prompt = f"Is this review positive, negative or neutral? One word.\n\n{review}"
    requests: Any = [request_of("r", prompt)]
    # When
    message = results(claude, claude.messages.batches.create(requests=requests).id)["r"].message
    # Then
    assert message.content[0].text == f"[simulated] {sentiment}"


def test_summaries_are_three_bullet_points_of_the_texts_words(
    claude: Anthropic, request_of: Write, results: Read
) -> None:
    # Given
    text = "# Title\nThe quick brown fox jumps over it.\nA lazy dog sleeps all day long.\nshort"
    requests: Any = [request_of("r", f"Summarise this file in three bullet points:\n{text}")]
    # When
    answer = (
        results(claude, claude.messages.batches.create(requests=requests).id)["r"].message.content[0].text
    )
    # Then
    lines = answer.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("- [simulated] ") for line in lines)
    assert "quick brown fox" in answer
