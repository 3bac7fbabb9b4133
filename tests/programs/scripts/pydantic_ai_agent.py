"""Pydantic AI: an agent with a tool and an output type, which streams always."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel
from pydantic_ai import Agent


class Verdict(BaseModel):
    """What the agent decides."""

    sentiment: str
    confidence: float


MODEL = "anthropic:claude-haiku-4-5"
ANSWER = "[simulated] An answer to: Hello, Claude"

assert Agent(MODEL).run_sync("Hello, Claude").output == ANSWER
print("ok: run_sync")

judge = Agent(MODEL, output_type=Verdict)
assert isinstance(judge.run_sync("I love it").output, Verdict)
print("ok: output_type")

looked = []
helped = Agent(MODEL, output_type=Verdict)


@helped.tool_plain
def look(product: str) -> str:
    """Return what others say about a product."""
    looked.append(product)
    return "They love it."


assert isinstance(helped.run_sync("I love it").output, Verdict)
assert looked
print("ok: a tool, then the output")


async def streamed() -> str:
    async with Agent(MODEL).run_stream("Hello, Claude") as run:
        return await run.get_output()


assert asyncio.run(streamed()) == ANSWER
print("ok: run_stream")
