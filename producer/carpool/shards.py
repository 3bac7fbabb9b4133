"""The shards of the inbox: their keys in Redis, and which one a request goes to. It is a part of the contract.

Each shard is a stream with a counter of its own, so that as many aggregators can work at once.
"""

from __future__ import annotations

MAX_SHARDS = 32
"""The inbox is one stream or several, its shards. Each producer chooses how many it writes to; the worker reads all of
these, so that a producer with another number, or one less than before, strands nothing."""

OLD_INBOX, OLD_QUEUED = "carpool:inbox", "carpool:queued"
"""What producers of protocol version 1 write to."""


def inbox_of(shard: int) -> str:
    """Return the stream of a shard of the inbox; shards are numbered from 0."""
    return f"carpool:{{{shard}}}:inbox"


def queued_of(shard: int) -> str:
    """Return the counter of a shard of the inbox."""
    return f"carpool:{{{shard}}}:queued"


def shard_of(request_id: bytes, shards: int) -> int:
    """Return the shard that a request's id (16 bytes) determines, of so many."""
    return int.from_bytes(request_id[-4:]) % shards
