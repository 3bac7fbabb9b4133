"""How many messages Celery's door has refused, by client: a count in Redis, for the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import redis

from carpool_worker.coordination.keys import REFUSED_MESSAGES

MOST_CLIENTS = 100
"""Senders choose the names, so only so many are counted by themselves."""

OTHERS = "other"

COUNT_SCRIPT = f"""
local client = ARGV[1]
if redis.call('HEXISTS', KEYS[1], client) == 0 and redis.call('HLEN', KEYS[1]) >= {MOST_CLIENTS} then
  client = '{OTHERS}'
end
return redis.call('HINCRBY', KEYS[1], client, 1)
"""
"""KEYS: REFUSED_MESSAGES. ARGV: the client."""


def count(server: redis.Redis, client: str = OTHERS) -> None:
    """Count a message; without a client, it is none of those that have a name.

    Raises:
        redis.RedisError.
    """
    server.eval(COUNT_SCRIPT, 1, REFUSED_MESSAGES, client)


def counted(server: redis.Redis) -> Mapping[str, int]:
    """Return the counts since Redis last lost its data.

    Raises:
        redis.RedisError.
    """
    found = cast("dict[bytes, bytes]", server.hgetall(REFUSED_MESSAGES))
    return {client.decode(): int(number) for client, number in found.items()}
