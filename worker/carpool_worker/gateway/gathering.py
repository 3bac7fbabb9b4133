"""Commands of many calls at once: what comes while a round trip to Redis is under way goes with the next one."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

import msgspec
from redis.exceptions import NoScriptError

from carpool.aio_connections import LoopConnections
from carpool.options import Options
from carpool.packer import Command
from carpool.pipelining import LOST

MOST_COMMANDS = 200
"""In one round trip."""

OnReply = Callable[[Any], None]
"""Is called with the reply; with RedisUnavailable if there is none, or an error."""

_pack = msgspec.msgpack.Encoder().encode


class SharedScript:
    """A script that many calls share: it replies with an item for each of the items that they give.

    Its ARGV are `arguments`, and a msgpack array of the items. One that `is_first` runs before the others of its round
    trip.
    """

    def __init__(
        self, text: str, keys: Sequence[str], arguments: Sequence[str], *, is_first: bool = False
    ) -> None:
        self.text = text
        self.is_first = is_first
        sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()  # the name that Redis gives it
        self._start: Command = ("EVALSHA", sha, len(keys), *keys, *arguments)

    def command(self, items: Sequence[object]) -> Command:
        """Return the command that runs it for all of these."""
        return (*self._start, _pack(items))


class _Sent(NamedTuple):
    script: SharedScript | None  # None: it is a command of its own
    item: Any  # for the script, or that command
    on_reply: OnReply


class GatheredCommands:
    """Sends the commands of concurrent calls together; each gets its own reply."""

    def __init__(self, options: Options, redis: LoopConnections) -> None:
        self._options = options
        self._redis = redis
        self._waiting: deque[_Sent] = deque()
        self._sender: asyncio.Task[None] | None = None

    async def run(self, command: Command) -> Any:
        """Return the reply to a command, which must not block.

        Raises:
            RedisUnavailable: no reply came, or an error.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._submit(_Sent(None, command, partial(settle, future)))
        return await future

    def run_script(self, script: SharedScript, item: object, on_reply: OnReply) -> None:
        """Run a script for an item; `on_reply` gets the reply, or RedisUnavailable."""
        self._submit(_Sent(script, item, on_reply))

    async def all_replied(self) -> None:
        """Return once nothing is waiting or under way."""
        while self._sender is not None and not self._sender.done():
            await asyncio.wait([self._sender])

    def _submit(self, one: _Sent) -> None:
        self._waiting.append(one)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.get_running_loop().create_task(self._send_all())

    async def _send_all(self) -> None:
        while self._waiting:
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_COMMANDS))]
            try:
                await self._send(group)
            except LOST as error:
                for one in group:
                    one.on_reply(self._options.unavailable(error))

    async def _send(self, group: list[_Sent]) -> None:
        alone = [one for one in group if one.script is None]
        shared: dict[SharedScript, list[_Sent]] = {}
        for one in sorted(group, key=_place):
            if one.script is not None:
                shared.setdefault(one.script, []).append(one)
        commands: list[Command] = [one.item for one in alone]
        commands += [script.command([one.item for one in items]) for script, items in shared.items()]
        replies = await self._replies(commands, shared)
        for one, reply in zip(alone, replies, strict=False):
            self._pass_on([one], [reply])
        for items, reply in zip(shared.values(), replies[len(alone) :], strict=True):
            self._pass_on(items, repeat(reply) if isinstance(reply, Exception) else reply)

    async def _replies(self, commands: list[Command], scripts: Iterable[SharedScript]) -> list[Any]:
        replies = await self._redis.execute(commands)
        missing = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if missing:  # Redis has been started again
            await self._redis.execute([("SCRIPT LOAD", script.text) for script in scripts])
            repeated = await self._redis.execute([commands[at] for at in missing])
            for at, reply in zip(missing, repeated, strict=True):
                replies[at] = reply
        return replies

    def _pass_on(self, group: Iterable[_Sent], replies: Iterable[Any]) -> None:
        for one, reply in zip(group, replies, strict=False):
            one.on_reply(self._options.unavailable(reply) if isinstance(reply, Exception) else reply)


def _place(one: _Sent) -> bool:
    return not (one.script and one.script.is_first)


def settle(future: asyncio.Future[Any], reply: Any) -> None:
    """Pass a reply on to who waits for it, if somebody still does."""
    if future.done():
        return
    if isinstance(reply, Exception):
        future.set_exception(reply)
    else:
        future.set_result(reply)
