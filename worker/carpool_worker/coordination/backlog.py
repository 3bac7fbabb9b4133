"""Queue depths: whether a queue has so many unread messages that another one would be useless."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Protocol

import redis
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from redis.retry import Retry

from carpool.options import NO_RETRY
from carpool.redis_url import connect
from carpool_worker.coordination.broker_urls import is_redis

MOST_UNREAD = 100
"""A queue with this many messages gets no further ones: the agent that reads any of them finds all that is due."""

BROKER_SECONDS = 5.0
"""How long a broker may take to answer."""


class Queues(Protocol):
    """The queues of a broker."""

    def unread(self, queue: str) -> int:
        """Return how many messages are in a queue that no consumer has taken; 0 if there is no such queue.

        Raises:
            redis.RedisError, kombu.exceptions.OperationalError: the broker is away.
        """


class RedisQueues:
    """Those of a Redis, where Celery keeps each as a list of its name."""

    def __init__(self, server: redis.Redis) -> None:
        self._server = server

    def unread(self, queue: str) -> int:
        """Return the length of a queue."""
        return int(self._server.llen(queue))


class OtherQueues:
    """Those of any other broker, RabbitMQ for one."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Any = None

    def unread(self, queue: str) -> int:
        """Return the length of a queue."""
        connection = self._connection or Connection(self._url, connect_timeout=BROKER_SECONDS)  # type: ignore[no-untyped-call]
        try:
            self._connection = connection.ensure_connection(max_retries=1, timeout=BROKER_SECONDS)
            return unread_in(connection, queue)
        except connection.connection_errors as error:
            self._connection = None
            connection.release()
            raise OperationalError(str(error)) from error


def queues_of(url: str, key_prefix: str = "") -> Queues:
    """Return the queues of the broker with this URL; nothing is connected yet."""
    if is_redis(url):
        return RedisQueues(connect(url, key_prefix, retry=Retry(*NO_RETRY)))
    return OtherQueues(url)


def unread_in(connection: Any, queue: str) -> int:
    """Return the length of a queue of a kombu connection, 0 if there is no such queue."""
    channel = connection.channel()  # of its own: asking for a queue that isn't there closes it
    try:
        return int(channel.queue_declare(queue, passive=True).message_count)
    except connection.channel_errors:
        return 0
    finally:
        with suppress(*connection.channel_errors):
            channel.close()


def is_behind(queues: Queues, queue: str) -> bool:
    """Return whether a queue holds MOST_UNREAD messages or more."""
    return queues.unread(queue) >= MOST_UNREAD
