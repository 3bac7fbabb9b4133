"""A FastAPI service that classifies reviews: it enqueues each one, and the answer arrives as a signed webhook.

Beside a `carpool up`, which lets webhooks reach this machine and says where it is in .carpool/env:

    CARPOOL_WEBHOOK_ALLOWED_NETWORKS=127.0.0.0/8 carpool up --latency 5
    source .carpool/env
    uvicorn --app-dir docs/examples fastapi_service:app --port 8000
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from pydantic import BaseModel

from carpool import InvalidSignature, Producer, QueueFull, Webhook
from carpool.webhooks import verify

app = FastAPI(title="Reviews")

verdicts: dict[str, str] = {}
"""Request id to verdict; a real service keeps them in its database."""


class Review(BaseModel):
    """What a caller sends."""

    number: int
    text: str


@lru_cache
def connected_producer() -> Producer:
    """Return the producer of this process, which all threads share; Redis is at CARPOOL_REDIS_URL."""
    return Producer(client="reviews", allow_http=public_url().startswith("http:"))


def public_url() -> str:
    """Return where Carpool reaches this service. In production it is https."""
    return os.environ.get("PUBLIC_URL", "http://127.0.0.1:8000")


@app.post("/reviews", status_code=202)
def submit(review: Review, producer: Annotated[Producer, Depends(connected_producer)]) -> dict[str, str]:
    """Enqueue one review. The same number is the same request, however often the caller retries."""
    question = (
        f"Is this review positive, negative or neutral? Answer with that one word.\n\nReview: {review.text}"
    )
    try:
        request_id = producer.enqueue(
            {
                "model": "claude-haiku-4-5",
                "max_tokens": 16,
                "messages": [{"role": "user", "content": question}],
            },
            callback=Webhook(f"{public_url()}/claude"),
            metadata={"number": review.number},
            idempotency_key=f"review-{review.number}",
        )
    except QueueFull as error:
        raise HTTPException(503, "busy", headers={"Retry-After": "30"}) from error
    return {"request": request_id}


@app.post("/claude", status_code=204)
async def receive(request: Request) -> Response:
    """Take an answer. It may come twice, so storing it must be idempotent."""
    try:
        result = verify(await request.body(), request.headers, os.environ["CARPOOL_WEBHOOK_SECRET"])
    except InvalidSignature as error:
        raise HTTPException(401, "not signed by Carpool") from error
    verdicts[result.id] = result.text if result.error is None else f"failed: {result.error.type}"
    return Response(status_code=204)


@app.get("/reviews/{request_id}")
def verdict(request_id: str) -> dict[str, Any]:
    """Return the verdict, or null while there is none."""
    return {"verdict": verdicts.get(request_id)}
