"""Queue depths: whether a queue has so many unread messages that another one would be useless."""

from __future__ import annotations

import redis

MOST_UNREAD = 100
"""A queue with this many messages gets no further ones: the agent that reads any of them finds all that is due."""


def is_behind(server: redis.Redis, queue: str) -> bool:
    """Return whether a queue holds MOST_UNREAD messages or more."""
    return int(server.llen(queue)) >= MOST_UNREAD
