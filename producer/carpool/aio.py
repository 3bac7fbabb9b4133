"""The producer for asyncio: the same as `carpool.client`, with await."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from contextlib import aclosing, suppress
from time import monotonic
from typing import Any, Self, Unpack

import redis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry

from carpool.cancellation import CancelCommand
from carpool.envelopes import EnqueueOptions, Params, Request
from carpool.grouping import GroupedAppend
from carpool.options import DEFAULT_MAX_QUEUED, NO_RETRY, ONE_RETRY, RECONNECT_SECONDS, SOCKET, Options
from carpool.packer import Command, Packer
from carpool.pipelining import LOST
from carpool.request_ids import RequestIds
from carpool.results import Result
from carpool.waiting import PING, ReplyWaiter


class AsyncProducer:
    """The Producer with await: the same arguments, results and errors. Use it in one event loop only."""

    def __init__(
        self,
        url: str | None = None,
        *,
        client: str | None = None,
        max_queued: int = DEFAULT_MAX_QUEUED,
        allow_http: bool = False,
        durable: bool = False,
        inbox_shards: int | None = None,
    ) -> None:
        self._options = Options.resolve(url, client, max_queued, allow_http, durable, inbox_shards)
        self._redis = Redis.from_url(self._options.url, retry=Retry(*ONE_RETRY), **SOCKET)
        self._reader = Redis.from_url(self._options.url, retry=Retry(*NO_RETRY), **SOCKET)
        self._appends = GroupedAppend(self._options, self._append)

    async def enqueue(
        self, params: Params, *, idempotency_key: str | None = None, **options: Unpack[EnqueueOptions]
    ) -> str:
        """Enqueue one request and return its id; see `Producer.enqueue`.

        What many coroutines enqueue at the same moment is appended in one round trip: enqueue with `gather` or a
        TaskGroup, not one by one.
        """
        request = self._options.check(options).request(params, idempotency_key)
        await self._appends.append(request)
        return request.id.hex()

    async def enqueue_many(
        self,
        requests: Iterable[Params | Request] | AsyncIterable[Params | Request],
        **options: Unpack[EnqueueOptions],
    ) -> RequestIds:
        """Enqueue any number of requests, from an async iterable too; see `Producer.enqueue_many`."""
        packer = Packer(self._options, self._options.check(options))
        with packer.deferring_failure():
            if isinstance(requests, AsyncIterable):
                async for request in requests:
                    if packer.add(request):
                        await self._append(packer)
            else:
                for request in requests:
                    if packer.add(request):
                        await self._append(packer)
        await self._append_rest(packer)
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
        """Drop unread answers, and close the connections; the producer opens new ones when it is used again."""
        if unread := self._options.pushed.abandoned():
            with suppress(redis.RedisError):
                await self._redis.delete(unread)
        await self._redis.aclose()
        await self._reader.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def _append_rest(self, packer: Packer) -> None:
        packer.close()
        await self._append(packer)

    async def _append(self, packer: Packer) -> None:
        while packer.unsettled:
            try:
                replies = await _execute(self._redis, packer.commands())
            except LOST as error:
                raise packer.unanswered(error) from error
            packer.settle(replies)

    async def _cancel(self, command: CancelCommand) -> None:
        try:
            if commands := command.commands():
                command.confirm(await _execute(self._redis, commands))
        except LOST as error:
            raise self._options.unavailable(error) from error
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
            with suppress(redis.RedisError):
                await self._redis.delete(waiter.reply_to)

    async def _register(self, waiter: ReplyWaiter) -> None:
        try:
            waiter.confirm(await _execute(self._redis, waiter.commands(monotonic()) or [PING]))
        except LOST as error:
            raise self._options.unavailable(error) from error

    async def _read(self, waiter: ReplyWaiter) -> None:
        try:
            await _execute(self._redis, waiter.commands(monotonic()))
            replies = await _execute(self._reader, [waiter.read_command(monotonic())])
            await _execute(self._redis, waiter.receive(replies))
        except LOST:
            waiter.repeat_all(monotonic())
            await asyncio.sleep(RECONNECT_SECONDS)


async def _execute(connection: Redis, commands: Sequence[Command]) -> list[Any]:
    """Return a reply to each command, error replies as values; one round trip."""
    task = asyncio.current_task()
    cancelled = task.cancelling() if task else 0
    replies = await _replies(connection, commands)
    # redis-py sends through asyncio.wait_for, which before Python 3.12 can swallow a cancellation (its issue 86296).
    if task and task.cancelling() > cancelled:
        raise asyncio.CancelledError
    return replies


async def _replies(connection: Redis, commands: Sequence[Command]) -> list[Any]:
    if len(commands) == 1:
        try:
            return [await connection.execute_command(*commands[0])]  # type: ignore[no-untyped-call]
        except redis.ResponseError as error:
            return [error]
    async with connection.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute(raise_on_error=False)
