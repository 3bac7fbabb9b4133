"""A Celery service that classifies reviews: one of its tasks enqueues them, another one gets the answers.

Beside a `carpool up`, on whose Redis this service has a queue of its own:

    source .carpool/env
    celery --workdir docs/examples --app celery_service worker --queues reviews --loglevel INFO
    celery --workdir docs/examples --app celery_service call reviews.classify --queue reviews --args '[1, "I love it."]'
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from celery import Celery
from celery.utils.log import get_task_logger

from carpool import Producer, Result, Task

app = Celery("reviews", broker=os.environ.get("CARPOOL_REDIS_URL", "redis://127.0.0.1:6399/0"))
app.conf.update(
    task_default_queue="reviews", task_ignore_result=True, broker_connection_retry_on_startup=True
)
log = get_task_logger(__name__)


@lru_cache
def connected_producer() -> Producer:
    """Return the producer of this process; it connects when first used, so after Celery has forked."""
    return Producer(client="reviews-by-task")


@app.task(name="reviews.classify", acks_late=True)
def classify(number: int, text: str) -> None:
    """Enqueue one review. Celery may run this twice; the same key is the same request."""
    question = f"Is this review positive, negative or neutral? Answer with that one word.\n\nReview: {text}"
    connected_producer().enqueue(
        {"model": "claude-haiku-4-5", "max_tokens": 16, "messages": [{"role": "user", "content": question}]},
        callback=Task("reviews.on_answer", queue="reviews"),
        metadata={"number": number},
        idempotency_key=f"review-{number}",
    )


@app.task(name="reviews.on_answer", acks_late=True)
def on_answer(answer: dict[str, Any]) -> None:
    """Take an answer. It may come twice, so what is done with it must be idempotent."""
    result = Result.from_json(answer)
    if result.error:
        log.error("review %s failed: %s", result.metadata["number"], result.error.type)
    else:
        log.info("review %s is %s", result.metadata["number"], result.text)
