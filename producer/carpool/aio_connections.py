"""An AsyncProducer's connections to Redis: those of each event loop that it is used in, closed when the loop ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import redis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry

from carpool.grouping import GroupedAppend
from carpool.options import NO_RETRY, ONE_RETRY, SOCKET, Options
from carpool.packer import Command, Packer
from carpool.pipelining import LOST
from carpool.redis_url import connect_async


class LoopConnections:
    """The connections of one event loop; nothing of them can be used in another one."""

    def __init__(self, options: Options) -> None:
        address = options.url, options.key_prefix
        self._redis = connect_async(*address, retry=Retry(*ONE_RETRY), **SOCKET)
        self._reader = connect_async(*address, retry=Retry(*NO_RETRY), **SOCKET)
        self._is_closed = False
        self.appends = GroupedAppend(options, self.append)

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        """Return a reply to each command, error replies as values; one round trip."""
        return await self._through(self._redis, commands)

    async def read(self, command: Command) -> list[Any]:
        """Return the reply to a command that blocks, an error reply as a value; it is never sent twice."""
        return await self._through(self._reader, [command])

    async def append(self, packer: Packer) -> None:
        """Send what the packer has closed, and wait until Redis has replied to everything.

        Raises what `Packer.settle` raises, and RedisUnavailable when a second try fails too.
        """
        while packer.unsettled:
            try:
                replies = await self.execute(packer.commands())
            except LOST as error:
                raise packer.unanswered(error) from None
            packer.settle(replies)

    async def close(self) -> None:
        """Close all connections."""
        self._is_closed = True
        await self._redis.aclose()
        await self._reader.aclose()

    async def _through(self, connection: Redis, commands: Sequence[Command]) -> list[Any]:
        try:
            return await _execute(connection, commands)
        finally:
            if self._is_closed:  # meanwhile, as the loop ends: redis-py may have connected again
                await connection.aclose()


class ConnectionsByLoop:
    """Opens connections in each event loop when they are first needed there."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._open: dict[asyncio.AbstractEventLoop, tuple[LoopConnections, AsyncGenerator[None, None]]] = {}

    async def here(self) -> LoopConnections:
        """Return the connections of the running event loop."""
        loop = asyncio.get_running_loop()
        if (found := self._open.get(loop)) is None:
            for other in list(self._open):
                if other.is_closed():  # without having been shut down, as asyncio.run does it
                    self._open.pop(other, None)
            connections = LoopConnections(self._options)
            lifetime = self._lifetime(loop, connections)
            found = self._open[loop] = connections, lifetime
            await anext(lifetime)
        return found[0]

    def open_here(self) -> LoopConnections | None:
        """Return the connections of the running event loop if they are open; a loop that ends should open no others."""
        found = self._open.get(asyncio.get_running_loop())
        return found and found[0]

    async def close(self) -> None:
        """Close the connections of the running event loop."""
        if found := self._open.get(asyncio.get_running_loop()):
            await found[1].aclose()

    async def _lifetime(
        self, loop: asyncio.AbstractEventLoop, connections: LoopConnections
    ) -> AsyncGenerator[None, None]:
        """Close the connections when this is closed: by `close`, or by the loop, which closes what was begun in it."""
        try:
            yield
        finally:
            self._open.pop(loop, None)
            await connections.close()


async def _execute(connection: Redis, commands: Sequence[Command]) -> list[Any]:
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
