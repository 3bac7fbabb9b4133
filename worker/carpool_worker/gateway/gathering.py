"""Commands of many calls at once: what comes while a round trip to Redis is under way goes with the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.exceptions import NoScriptError

from carpool.aio_connections import LoopConnections
from carpool.options import Options
from carpool.packer import Command
from carpool.pipelining import LOST

MOST_COMMANDS = 200
"""In one round trip."""


class _Sent(NamedTuple):
    command: Command
    reply: asyncio.Future[Any]


class GatheredCommands:
    """Sends the commands of concurrent calls together; each gets its own reply."""

    def __init__(self, options: Options, redis: LoopConnections, scripts: Sequence[str] = ()) -> None:
        self._options = options
        self._redis = redis
        self._load: list[Command] = [("SCRIPT LOAD", script) for script in scripts]
        self._waiting: deque[_Sent] = deque()
        self._sender: asyncio.Task[None] | None = None

    async def run(self, command: Command) -> Any:
        """Return the reply to a command, which must not block.

        Raises:
            RedisUnavailable: no reply came, or an error.
        """
        loop = asyncio.get_running_loop()
        one = _Sent(command, loop.create_future())
        self._waiting.append(one)
        if self._sender is None or self._sender.done():
            self._sender = loop.create_task(self._send_all())
        return await one.reply

    async def _send_all(self) -> None:
        while self._waiting:
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_COMMANDS))]
            try:
                replies = await self._replies([one.command for one in group])
            except LOST as error:
                replies = [error] * len(group)
            except BaseException:
                for one in (*group, *self._waiting):
                    one.reply.cancel()
                self._waiting.clear()
                raise
            for one, reply in zip(group, replies, strict=True):
                self._settle(one.reply, reply)

    async def _replies(self, commands: list[Command]) -> list[Any]:
        replies = await self._redis.execute(commands)
        missing = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if missing:  # Redis has been started again
            await self._redis.execute(self._load)
            repeated = await self._redis.execute([commands[at] for at in missing])
            for at, reply in zip(missing, repeated, strict=True):
                replies[at] = reply
        return replies

    def _settle(self, future: asyncio.Future[Any], reply: Any) -> None:
        if future.done():  # its call has been given up
            return
        if isinstance(reply, Exception):
            future.set_exception(self._options.unavailable(reply))
        else:
            future.set_result(reply)
