"""LiteLLM."""

from __future__ import annotations

import asyncio

import litellm

ANSWER = "[simulated] An answer to: Hello, Claude"
CALL = {
    "model": "anthropic/claude-haiku-4-5",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Hello, Claude"}],
}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}

assert litellm.completion(**CALL).choices[0].message.content == ANSWER
print("ok: completion")
assert (
    "".join(chunk.choices[0].delta.content or "" for chunk in litellm.completion(**CALL, stream=True))
    == ANSWER
)
print("ok: completion with stream")
assert asyncio.run(litellm.acompletion(**CALL)).usage.completion_tokens > 0
print("ok: acompletion")
called = litellm.completion(**CALL, tools=[TOOL], tool_choice="required").choices[0].message.tool_calls
assert called[0].function.name == "weather"
print("ok: tools")
try:
    litellm.completion(**CALL | {"model": "anthropic/claude-unheard-of"})
except litellm.NotFoundError:
    print("ok: an error of the right kind: NotFoundError")
