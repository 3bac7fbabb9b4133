"""LlamaIndex's Anthropic LLM."""

from __future__ import annotations

import asyncio

from llama_index.core.llms import ChatMessage
from llama_index.llms.anthropic import Anthropic
from pydantic import BaseModel


class Person(BaseModel):
    """A person."""

    name: str
    age: int


ANSWER = "[simulated] An answer to: Hello, Claude"
HELLO = [ChatMessage(role="user", content="Hello, Claude")]
llm = Anthropic(model="claude-haiku-4-5", max_tokens=64)

assert llm.chat(HELLO).message.content == ANSWER
print("ok: chat")
parts = list(llm.stream_chat(HELLO))
assert "".join(part.delta or "" for part in parts) == parts[-1].message.content == ANSWER
print("ok: stream_chat")
assert llm.complete("Hello, Claude").text == ANSWER
print("ok: complete")
assert asyncio.run(llm.achat(HELLO)).message.content == ANSWER
print("ok: achat")
assert isinstance(llm.as_structured_llm(Person).complete("Who?").raw, Person)
print("ok: as_structured_llm")
