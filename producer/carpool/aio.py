"""The producer for asyncio: the same as `carpool.client`, with await."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from contextlib import aclosing, suppress
from time import monotonic
from typing import Any, Self, Unpack

import redis

from carpool.aio_connections import ConnectionsByLoop
from carpool.cancellation import CancelCommand
from carpool.enqueue_options import EnqueueOptions, Params, Request
from carpool.options import DEFAULT_MAX_QUEUED, RECONNECT_SECONDS, Options
from carpool.packer import Command, Packer
from carpool.pipelining import LOST
from carpool.request_ids import RequestIds
from carpool.results import Result
from carpool.waiting import PING, ReplyWaiter


class AsyncProducer:
    """The Producer with await: the same arguments, results and errors.

    It may be used in any number of event loops, one after the other or at once: it opens connections in each, and
    closes them when the loop is shut down, as `asyncio.run` does, or with `close` there.
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
    ) -> None:
        self._options = Options.resolve(
            url, client, max_queued, allow_http, durable, inbox_shards, key_prefix, durable_replicas
        )
        self._connections = ConnectionsByLoop(self._options)

    async def enqueue(
        self, params: Params, *, idempotency_key: str | None = None, **options: Unpack[EnqueueOptions]
    ) -> str:
        """Enqueue one request and return its id; see `Producer.enqueue`.

        What many coroutines enqueue at the same moment is appended in one round trip: enqueue with `gather` or a
        TaskGroup, not one by one.
        """
        request = self._options.check(options).request(params, idempotency_key)
        await (await self._connections.here()).appends.append(request)
        return request.id.hex()

    async def enqueue_many(
        self,
        requests: Iterable[Params | Request] | AsyncIterable[Params | Request],
        **options: Unpack[EnqueueOptions],
    ) -> RequestIds:
        """Enqueue any number of requests, from an async iterable too; see `Producer.enqueue_many`."""
        packer = Packer(self._options, self._options.check(options))
        connections = await self._connections.here()
        with packer.deferring_failure():
            if isinstance(requests, AsyncIterable):
                async for request in requests:
                    if packer.add(request):
                        await connections.append(packer)
            else:
                for request in requests:
                    if packer.add(request):
                        await connections.append(packer)
        packer.close()
        await connections.append(packer)
        return packer.finish()

    async def cancel(self, *request_ids: str) -> None:
        """Cancel requests of this client; see `Producer.cancel`."""
        await self._cancel(CancelCommand(self._options, request_ids))

    async def cancel_all(self) -> None:
        """Cancel all requests that this client has enqueued until now; see `Producer.cancel_all`."""
        await self._cancel(CancelCommand(self._options, None))

    async def wait(self, request_id: str, timeout: float | None = None) -> Result:  # noqa: ASYNC109 (as in Producer)
        """Return the result of a request of this client; see `Producer.wait`."""
        async with aclosing(self.as_completed([request_id], timeout)) as results:
            return await anext(results)

    def as_completed(self, ids: Iterable[str], timeout: float | None = None) -> AsyncGenerator[Result, None]:
        """Yield results as requests end; see `Producer.as_completed`."""
        return self._results(ReplyWaiter(self._options, ids, timeout, monotonic()))

    async def close(self) -> None:
        """Drop unread answers, and close this loop's connections; the producer opens new ones when it is used again."""
        if unread := self._options.pushed.abandoned():
            with suppress(redis.RedisError):
                await self._execute([("DEL", unread)])
        await self._connections.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def _execute(self, commands: Sequence[Command]) -> list[Any]:
        return await (await self._connections.here()).execute(commands)

    async def _cancel(self, command: CancelCommand) -> None:
        try:
            if commands := command.commands():
                command.confirm(await self._execute(commands))
        except LOST as error:
            raise self._options.unavailable(error) from None
        await asyncio.sleep(command.seconds_to_wait)

    async def _results(self, waiter: ReplyWaiter) -> AsyncGenerator[Result, None]:
        waiter.join()
        try:
            for result in waiter.results():
                yield result
            if not waiter.done:
                await self._register(waiter)
            while not waiter.done:
                await self._read(waiter)
                for result in waiter.results():
                    yield result
        finally:
            waiter.leave()
            if connections := self._connections.open_here():
                with suppress(redis.RedisError):
                    await connections.execute(waiter.last_commands())

    async def _register(self, waiter: ReplyWaiter) -> None:
        try:
            waiter.confirm(await self._execute(waiter.commands(monotonic()) or [PING]))
        except LOST as error:
            raise self._options.unavailable(error) from None

    async def _read(self, waiter: ReplyWaiter) -> None:
        try:
            connections = await self._connections.here()
            await connections.execute(waiter.commands(monotonic()))
            replies = await connections.read(waiter.read_command(monotonic()))
            await connections.execute(waiter.receive(replies))
        except LOST:
            waiter.repeat_all(monotonic())
            await asyncio.sleep(RECONNECT_SECONDS)
