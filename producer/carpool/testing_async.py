"""The in-memory producer for asyncio."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from typing import Any, Self, Unpack

from carpool.contract import Usage
from carpool.enqueue_options import EnqueueOptions, Params, Request
from carpool.options import DEFAULT_MAX_QUEUED
from carpool.request_ids import RequestIds
from carpool.results import Result
from carpool.testing_producer import Enqueued, InMemoryProducer


class AsyncInMemoryProducer:
    """Stands in for AsyncProducer in tests, as `InMemoryProducer` does for Producer.

    What the service calls is awaited; what the test calls (`answer`, `fail`, `webhook`, `enqueued`) is not.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: str | None = None,
        max_queued: int = DEFAULT_MAX_QUEUED,
        allow_http: bool = False,
        durable: bool = False,
        inbox_shards: int | None = None,
        key_prefix: str | None = None,
        durable_replicas: int = 0,
        reply: Callable[[dict[str, Any]], str] | None = None,
    ) -> None:
        self._producer = InMemoryProducer(
            url,
            client=client,
            max_queued=max_queued,
            allow_http=allow_http,
            durable=durable,
            inbox_shards=inbox_shards,
            key_prefix=key_prefix,
            durable_replicas=durable_replicas,
            reply=reply,
        )

    @property
    def enqueued(self) -> list[Enqueued]:
        """The requests so far; see `InMemoryProducer.enqueued`."""
        return self._producer.enqueued

    def answer(
        self, request_id: str, text: str, *, usage: Usage | None = None, cost: str | None = None
    ) -> Result:
        """End a request as succeeded with this text; see `InMemoryProducer.answer`."""
        return self._producer.answer(request_id, text, usage=usage, cost=cost)

    def fail(
        self, request_id: str, kind: str = "api_error", message: str = "", outcome: str = "errored"
    ) -> Result:
        """End a request with this error instead of a message; see `InMemoryProducer.fail`."""
        return self._producer.fail(request_id, kind, message, outcome)

    def webhook(self, request_id: str, secret: str) -> tuple[bytes, dict[str, str]]:
        """Return the body and the signed headers of a webhook; see `InMemoryProducer.webhook`."""
        return self._producer.webhook(request_id, secret)

    async def enqueue(
        self, params: Params, *, idempotency_key: str | None = None, **options: Unpack[EnqueueOptions]
    ) -> str:
        """Record one request, checked as by `AsyncProducer.enqueue`, and return its id."""
        return self._producer.enqueue(params, idempotency_key=idempotency_key, **options)

    async def enqueue_many(
        self,
        requests: Iterable[Params | Request] | AsyncIterable[Params | Request],
        **options: Unpack[EnqueueOptions],
    ) -> RequestIds:
        """Record requests, checked as by `AsyncProducer.enqueue_many`, and return their ids."""
        with self._producer.recording(options) as packer, packer.deferring_failure():
            if isinstance(requests, AsyncIterable):
                async for request in requests:
                    packer.add(request)
            else:
                for request in requests:
                    packer.add(request)
        return packer.finish()

    async def cancel(self, *request_ids: str) -> None:
        """End requests as canceled, at no cost; see `InMemoryProducer.cancel`."""
        self._producer.cancel(*request_ids)

    async def cancel_all(self) -> None:
        """End all requests that have not ended as canceled, at no cost."""
        self._producer.cancel_all()

    async def wait(self, request_id: str, timeout: float | None = None) -> Result:  # noqa: ASYNC109 (as AsyncProducer)
        """Return the result of a request; raises WaitTimeout immediately if the test gave no answer."""
        return self._producer.wait(request_id, timeout)

    async def as_completed(
        self,
        ids: Iterable[str],
        timeout: float | None = None,  # noqa: ASYNC109 (as AsyncProducer)
    ) -> AsyncGenerator[Result, None]:
        """Yield the results that exist; then raise WaitTimeout if some are missing."""
        for result in self._producer.as_completed(ids, timeout):
            yield result

    async def close(self) -> None:
        """Do nothing: what was recorded stays."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()
