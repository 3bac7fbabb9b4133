"""Pipelines over redis-py: one that is waited for, and one that flies while the next is packed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import redis

from carpool.packer import Command, Packer

LOST = (redis.ConnectionError, redis.TimeoutError)
"""What redis-py raises when a connection can't be made or breaks."""


def execute(client: redis.Redis, commands: Sequence[Command]) -> list[Any]:
    """Return a reply for each command, Redis' refusals as values; one round trip, retried by redis-py."""
    if len(commands) == 1:
        try:
            return [client.execute_command(*commands[0])]  # type: ignore[no-untyped-call]
        except redis.ResponseError as error:
            return [error]
    with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
        return pipeline.execute(raise_on_error=False)


class Flight:
    """Sends what a packer has ready and reads the replies later, so that packing and Redis overlap.

    Its methods raise what `Packer.settle` raises, and RedisUnavailable when a second try fails too.
    """

    def __init__(self, client: redis.Redis, packer: Packer) -> None:
        self._client = client
        self._pool: Any = client.connection_pool
        self._packer = packer
        self._connection: Any = None
        self._replies = 0

    def relaunch(self) -> None:
        """Land what is in the air, then send what is ready."""
        self._land()
        commands = self._packer.commands()
        try:
            self._connection = self._pool.get_connection()
        except LOST as error:
            raise self._packer.unanswered(error) from error
        try:
            self._connection.send_packed_command(self._connection.pack_commands(commands))
            self._replies = len(commands)
        except LOST:
            self._abandon()
            self._settle_now()

    def finish(self) -> None:
        """Send the rest, and wait until Redis has answered for everything."""
        self._packer.close_entry()
        self.relaunch()
        self._land()
        self._settle_now()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._abandon()

    def _land(self) -> None:
        if self._connection is None:
            return
        try:
            replies = [_read(self._connection) for _ in range(self._replies)]
        except LOST:
            self._abandon()
            self._settle_now()
            return
        self._pool.release(self._connection)
        self._connection = None
        self._packer.settle(replies)

    def _settle_now(self) -> None:
        while self._packer.unsettled:
            try:
                replies = execute(self._client, self._packer.commands())
            except LOST as error:
                raise self._packer.unanswered(error) from error
            self._packer.settle(replies)

    def _abandon(self) -> None:
        # Replies that nobody read would be taken for those of the connection's next user.
        if self._connection is not None:
            self._connection.disconnect()
            self._pool.release(self._connection)
            self._connection = None


def _read(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error
