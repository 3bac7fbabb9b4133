"""What producers and their doubles have in common: the types that a service writes where it takes either."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable
from typing import Protocol, Self, Unpack, runtime_checkable

from carpool.enqueue_options import EnqueueOptions, Params, Request
from carpool.request_ids import RequestIds
from carpool.results import Result


@runtime_checkable
class ProducerLike(Protocol):
    """A Producer, or `carpool.testing.InMemoryProducer` in its place; see `Producer` for what each method does."""

    def enqueue(
        self, params: Params, *, idempotency_key: str | None = None, **options: Unpack[EnqueueOptions]
    ) -> str:
        """Enqueue one request and return its id."""

    def enqueue_many(
        self, requests: Iterable[Params | Request], **options: Unpack[EnqueueOptions]
    ) -> RequestIds:
        """Enqueue any number of requests and return their ids."""

    def cancel(self, *request_ids: str) -> None:
        """Cancel requests."""

    def cancel_all(self) -> None:
        """Cancel all requests of this client."""

    def wait(self, request_id: str, timeout: float | None = None) -> Result:
        """Return the result of a request."""

    def as_completed(self, ids: Iterable[str], timeout: float | None = None) -> Generator[Result, None, None]:
        """Yield results as requests end."""

    def close(self) -> None:
        """Close the connections."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...


@runtime_checkable
class AsyncProducerLike(Protocol):
    """An AsyncProducer, or `carpool.testing.AsyncInMemoryProducer` in its place."""

    async def enqueue(
        self, params: Params, *, idempotency_key: str | None = None, **options: Unpack[EnqueueOptions]
    ) -> str:
        """Enqueue one request and return its id."""

    async def enqueue_many(
        self,
        requests: Iterable[Params | Request] | AsyncIterable[Params | Request],
        **options: Unpack[EnqueueOptions],
    ) -> RequestIds:
        """Enqueue any number of requests and return their ids."""

    async def cancel(self, *request_ids: str) -> None:
        """Cancel requests."""

    async def cancel_all(self) -> None:
        """Cancel all requests of this client."""

    async def wait(self, request_id: str, timeout: float | None = None) -> Result:  # noqa: ASYNC109 (as Producer)
        """Return the result of a request."""

    def as_completed(self, ids: Iterable[str], timeout: float | None = None) -> AsyncGenerator[Result, None]:
        """Yield results as requests end."""

    async def close(self) -> None:
        """Close the connections."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *error: object) -> None: ...
