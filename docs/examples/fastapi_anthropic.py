"""A FastAPI service that classifies reviews with Anthropic's client, through Carpool's gateway.

Nobody waits while a batch fills: each review is a task of its own, and its verdict is asked for later. The review's
number is its idempotency key, so a service that is started again finds the answers that its earlier self asked for.

    source .carpool/env      # of a `carpool up`: where its gateway is, and a key for it
    uvicorn --app-dir docs/examples fastapi_anthropic:app --port 8000
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anthropic
from fastapi import FastAPI, Request
from pydantic import BaseModel

import carpool

verdicts: dict[int, str] = {}
"""By the review's number; a real service keeps them in its database."""


class Review(BaseModel):
    """What a caller sends."""

    number: int
    text: str


@asynccontextmanager
async def connected(app: FastAPI) -> AsyncIterator[None]:
    """Open the client, and let go of what is still waiting in the end: it goes on at Carpool."""
    app.state.waiting = set()
    async with carpool.AsyncAnthropic() as app.state.client:
        yield
        for task in app.state.waiting:
            task.cancel()


app = FastAPI(title="Reviews", lifespan=connected)


@app.post("/reviews", status_code=202)
async def submit(review: Review, request: Request) -> dict[str, int]:
    """Take a review; its verdict comes later."""
    task = asyncio.create_task(classify(request.app.state.client, review))
    request.app.state.waiting.add(task)
    task.add_done_callback(request.app.state.waiting.discard)
    return {"number": review.number}


@app.get("/reviews/{number}")
async def verdict(number: int) -> dict[str, str | None]:
    """Return the verdict, or null while there is none."""
    return {"verdict": verdicts.get(number)}


async def classify(client: carpool.AsyncAnthropic, review: Review) -> None:
    """Ask for a verdict, and keep it. The same number is the same request, and is paid for once."""
    question = (
        f"Is this review positive, negative or neutral? Answer with that one word.\n\nReview: {review.text}"
    )
    try:
        message = await client.messages.create(
            model="claude-haiku-4-5",
            max_tokens=16,
            messages=[{"role": "user", "content": question}],
            extra_headers={"Idempotency-Key": f"review-{review.number}"},
        )
    except anthropic.APIError as error:
        verdicts[review.number] = f"failed: {type(error).__name__}"
    else:
        block = message.content[0]
        verdicts[review.number] = block.text if block.type == "text" else block.type
