"""Ways to send commands by redis-py: one at a time, as a pipeline, and a pipeline packed while another is out."""

from __future__ import annotations

from collections.abc import Sequence
from os import getpid
from typing import Any, Self

import redis

from carpool.packer import Command, Packer

LOST = (redis.ConnectionError, redis.TimeoutError)
"""Raised by redis-py when a connection can't be made or breaks."""


def execute(client: redis.Redis, commands: Sequence[Command]) -> list[Any]:
    """Return a reply to each command, error replies as values; one round trip, which redis-py retries."""
    if len(commands) == 1:
        try:
            return [client.execute_command(*commands[0])]  # type: ignore[no-untyped-call]
        except redis.ResponseError as error:
            return [error]
    with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
        return pipeline.execute(raise_on_error=False)


def append(client: redis.Redis, packer: Packer) -> None:
    """Send what the packer has closed, and wait until Redis has replied to everything.

    Raises what `Packer.settle` raises, and RedisUnavailable when a second try fails too.
    """
    while packer.unsettled:
        try:
            replies = execute(client, packer.commands())
        except LOST as error:
            raise packer.unanswered(error) from None
        packer.settle(replies)


class DirectConnections:
    """Idle connections for single commands: they are kept out of redis-py's pool, which takes as long as Redis does."""

    def __init__(self, client: redis.Redis) -> None:
        self._pool: Any = client.connection_pool
        self._idle: list[Any] = []

    def send(self, command: Command) -> Any:
        """Return the reply to a command, an error reply as a value; raises one of LOST."""
        connection = self._connection()
        try:
            connection.send_packed_command(connection.pack_command(*command))
            reply = _read(connection)
        except BaseException:
            # Otherwise its next user would take an unread reply for its own.
            connection.disconnect()
            self._pool.release(connection)
            raise
        if connection.should_reconnect():
            self._pool.release(connection)
        else:
            self._idle.append(connection)
        return reply

    def _connection(self) -> Any:
        try:
            connection = self._idle.pop()
        except IndexError:
            return self._pool.get_connection()
        if connection.pid != getpid():  # of the process that forked this one
            self._idle.clear()
            return self._pool.get_connection()
        return connection


class PipelinedAppend:
    """Sends the commands that a packer has ready, and receives the replies later: packing and Redis' work overlap.

    A connection that breaks is tried again once. Raises what `Packer.settle` raises, and RedisUnavailable when the
    second try fails too.
    """

    def __init__(self, client: redis.Redis, packer: Packer) -> None:
        self._client = client
        self._pool: Any = client.connection_pool
        self._packer = packer
        self._connection: Any = None
        self._replies = 0

    def send(self) -> None:
        """Receive the replies to what was sent before, then send what is ready."""
        self._receive()
        commands = self._packer.commands()
        try:
            self._connection = self._pool.get_connection()
        except LOST as error:
            raise self._packer.unanswered(error) from None
        try:
            self._connection.send_packed_command(self._connection.pack_commands(commands))
            self._replies = len(commands)
        except LOST:
            self._disconnect()
            append(self._client, self._packer)

    def finish(self) -> None:
        """Send the rest, and wait until Redis has replied to everything."""
        self._packer.close()
        self.send()
        self._receive()
        append(self._client, self._packer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._disconnect()

    def _receive(self) -> None:
        if self._connection is None:
            return
        try:
            replies = [_read(self._connection) for _ in range(self._replies)]
        except LOST:
            self._disconnect()
            append(self._client, self._packer)
            return
        self._pool.release(self._connection)
        self._connection = None
        self._packer.settle(replies)

    def _disconnect(self) -> None:
        # Otherwise the connection's next user would take unread replies for its own.
        if self._connection is not None:
            self._connection.disconnect()
            self._pool.release(self._connection)
            self._connection = None


def _read(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error
