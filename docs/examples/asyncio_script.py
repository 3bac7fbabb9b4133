"""A script that classifies a file of reviews, a line each, and prints each verdict as it arrives.

Beside a `carpool up`; stop it and run it again at any time, nothing is paid for twice:

    source .carpool/env
    python docs/examples/asyncio_script.py reviews.txt
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from carpool import AsyncProducer, Request


def requests(run: str, reviews: Sequence[str]) -> Iterator[Request]:
    """Yield a request for each review; its key is the run and the line, so the next run asks for the same one."""
    for number, review in enumerate(reviews):
        question = (
            f"Is this review positive, negative or neutral? Answer with that one word.\n\nReview: {review}"
        )
        params = {
            "model": "claude-haiku-4-5",
            "max_tokens": 16,
            "messages": [{"role": "user", "content": question}],
        }
        yield Request(params, metadata={"review": review}, idempotency_key=f"{run}-{number}")


async def main(run: str, reviews: Sequence[str]) -> None:
    """Enqueue all of them, then print the answers in the order in which they come."""
    async with AsyncProducer(client="script") as producer:
        ids = await producer.enqueue_many(requests(run, reviews))
        async for result in producer.as_completed(ids):
            print(f"{result.text or result.outcome}: {result.metadata['review']}")


if __name__ == "__main__":
    file = Path(sys.argv[1])
    asyncio.run(main(file.stem, file.read_text().splitlines()))
