"""The requests that are measured: prompts of a given size, each a little different."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from carpool.contract import to_json

MODEL = "claude-haiku-4-5"
ANSWER = "A sentence of an answer, of the length that such sentences have. " * 9
"""With the envelope about 1 kB a result line."""

SENTENCE = "The invoice of last month lists a position that nobody here has ordered, so please look. "
FRAME_BYTES = len(to_json({"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": ""}]}))


def params(count: int, size: int) -> Iterator[dict[str, Any]]:
    """Yield the params of `count` requests, each `size` bytes of JSON."""
    text = SENTENCE * (size // len(SENTENCE) + 1)
    for number in range(count):
        content = f"{number:08d} {text}"[: size - FRAME_BYTES]
        yield {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": content}]}
