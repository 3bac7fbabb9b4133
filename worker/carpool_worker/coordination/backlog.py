"""Queue depths: whether a queue has so many unread messages that another is of no use."""

from __future__ import annotations

import redis

MOST_UNREAD = 100
"""Messages in a queue from which on it gets no more ticks or nudges: whoever reads these looks at all there is."""


def is_behind(server: redis.Redis, queue: str) -> bool:
    """Tell whether a queue has more messages than its workers need to be told."""
    return int(server.llen(queue)) >= MOST_UNREAD
