"""The requests and answers that are measured: prose, which compresses as people's texts do, no two alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tests.bench.corpus import TEXTS, Prose, texts

from carpool.contract import to_json

MODEL = "claude-haiku-4-5"
MAX_TOKENS = 256
"""Enough for ANSWER_CHARS: the simulator cuts longer answers."""

SIZE = 1_200
"""Bytes of a request's params, the 1 kB of the aims and a little more."""

ANSWER_CHARS = 600
"""Characters of an answer's text; with what the API puts around it a result line has about 1 kB."""

NUMBER_CHARS = len("00000000 ")
SYSTEM_CHARS, QUESTION_CHARS = 2_000, 400
FRAME_BYTES = len(
    to_json({"model": MODEL, "max_tokens": MAX_TOKENS, "messages": [{"role": "user", "content": ""}]})
)

Params = dict[str, Any]


def prose(count: int, size: int = SIZE) -> Iterator[Params]:
    """Yield the params of `count` requests, each `size` bytes of JSON."""
    prompts = texts(size - FRAME_BYTES - NUMBER_CHARS)
    for number in range(count):
        content = f"{number:08d} {prompts[number % TEXTS]}"
        yield {"model": MODEL, "max_tokens": MAX_TOKENS, "messages": [{"role": "user", "content": content}]}


def mixed(count: int) -> Iterator[Params]:
    """Yield requests of 1 to 2.4 kB."""
    prompts = texts(2_300)
    for number in range(count):
        content = f"{number:08d} {prompts[number % TEXTS][: 900 + number % 19 * 75]}"
        yield {"model": MODEL, "max_tokens": MAX_TOKENS, "messages": [{"role": "user", "content": content}]}


def shared(count: int) -> Iterator[Params]:
    """Yield requests that share a system prompt of 2 kB, each with a question of 400 B."""
    system, questions = Prose().text(SYSTEM_CHARS), texts(QUESTION_CHARS - NUMBER_CHARS)
    for number in range(count):
        content = f"{number:08d} {questions[number % TEXTS]}"
        messages = [{"role": "user", "content": content}]
        yield {"model": MODEL, "max_tokens": MAX_TOKENS, "system": system, "messages": messages}


CORPORA: dict[str, Callable[[int], Iterator[Params]]] = {
    "prose, 1.2 kB": prose,
    "shared 2 kB + 400 B": shared,
}
