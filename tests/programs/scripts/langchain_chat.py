"""LangChain's ChatAnthropic."""

from __future__ import annotations

import asyncio

from langchain_anthropic import ChatAnthropic
from langchain_core.tools import tool
from pydantic import BaseModel


class Person(BaseModel):
    """A person."""

    name: str
    age: int


@tool
def weather(city: str) -> str:
    """Return the weather in a city."""
    return f"It rains in {city}."


ANSWER = "[simulated] An answer to: Hello, Claude"
model = ChatAnthropic(model="claude-haiku-4-5", max_tokens=64)

assert model.invoke("Hello, Claude").content == ANSWER
print("ok: invoke")
assert [answer.content for answer in model.batch(["Hello, Claude"] * 5)] == [ANSWER] * 5
print("ok: batch of 5")
assert "".join(str(chunk.text) for chunk in model.stream("Hello, Claude")) == ANSWER
print("ok: stream")
assert asyncio.run(model.ainvoke("Hello, Claude")).usage_metadata["output_tokens"] > 0
print("ok: ainvoke")
assert isinstance(model.with_structured_output(Person).invoke("Who?"), Person)
print("ok: with_structured_output")
assert isinstance(model.with_structured_output(Person, method="json_schema").invoke("Who?"), Person)
print("ok: with_structured_output by a JSON schema")
(call,) = model.bind_tools([weather], tool_choice="weather").invoke("Weather?").tool_calls
assert weather.invoke(call).content.startswith("It rains in")
print("ok: bind_tools")
