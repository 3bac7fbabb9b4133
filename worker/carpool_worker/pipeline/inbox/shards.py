"""The shards of the inbox: streams that as many aggregators can read at once, each with its own open batches.

Producers choose how many they spread their requests over. The worker has no number of its own: it reads every stream
that a producer of any version and any setting may have written to, so none is stranded when that number changes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import redis

from carpool.contract import INBOX, QUEUED
from carpool.shards import MAX_SHARDS, OLD_INBOX, OLD_QUEUED, inbox_of, queued_of


class Shard(NamedTuple):
    """One stream of the inbox; an aggregator holds a lease on it by its name."""

    name: str = "0"
    number: int = 0  # of the open batches that its requests go into
    inbox: str = INBOX
    queued: str = QUEUED  # the counter of its requests

    @property
    def lease(self) -> str:
        """The lock of the aggregator that reads it."""
        return f"aggregate:{self.name}"


FIRST = Shard()
SHARDS = (
    FIRST,
    *(Shard(str(number), number, inbox_of(number), queued_of(number)) for number in range(1, MAX_SHARDS)),
    Shard("old", FIRST.number, OLD_INBOX, OLD_QUEUED),
)
"""All there can be: the numbered ones, and the stream of protocol version 1, whose batches are the first shard's."""

_BY_NAME = {shard.name: shard for shard in SHARDS}


def named(name: str) -> Shard:
    """Return the shard of that name; raises KeyError."""
    return _BY_NAME[name]


def filled(server: redis.Redis) -> list[Shard]:
    """Return the shards that have entries, be they read already or not."""
    with server.pipeline(transaction=False) as pipeline:
        for shard in SHARDS:
            pipeline.xlen(shard.inbox)
        lengths: list[Any] = pipeline.execute()
    return [shard for shard, length in zip(SHARDS, lengths, strict=True) if length]


def queued(server: redis.Redis) -> int:
    """Return how many requests are in the inbox, in all shards together."""
    counts: list[Any] = server.mget([shard.queued for shard in SHARDS])
    return sum(max(0, int(count or 0)) for count in counts)
