"""Vital signs from Redis: what waits in the inbox, and whether beat is alive; for the status and for the metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis

from carpool_worker.coordination import heartbeat, refused_messages
from carpool_worker.coordination.keys import QUARANTINE
from carpool_worker.pipeline.inbox import shards

OLDEST_SCRIPT = """
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if not first then return -1 end
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(string.match(first[1], '%d+'))
"""
"""KEYS: a stream. Returns the age in milliseconds of its oldest entry, by Redis' own clock, or -1; the contents, which
may be megabytes, stay there."""


@dataclass(frozen=True)
class Vitals:
    """Requests in the inbox, entries in the quarantine, and who is alive. Ages are in seconds."""

    inbox: int = 0
    oldest_age: float | None = None  # of the entries in the inbox
    quarantined: int = 0
    refused_messages: Mapping[str, int] = field(default_factory=dict)  # of Celery's, by client
    beat_age: float | None = None  # since its last tick; None: there was none, or it was long ago
    workers: Sequence[str] = ()  # those that answered, if they were asked
    error: str | None = None  # why nothing is known


def read_vitals(server: redis.Redis) -> Vitals:
    """Return what Redis knows; no worker is asked.

    Raises:
        RedisError.
    """
    return Vitals(
        inbox=shards.queued(server),
        oldest_age=_oldest_age(server),
        quarantined=int(server.xlen(QUARANTINE)),
        refused_messages=refused_messages.counted(server),
        beat_age=heartbeat.age(server),
    )


def _oldest_age(server: redis.Redis) -> float | None:
    with server.pipeline(transaction=False) as pipeline:
        for shard in shards.filled(server):
            pipeline.eval(OLDEST_SCRIPT, 1, shard.inbox)
        ages: list[Any] = pipeline.execute()
    oldest = max(map(int, ages), default=-1)
    return oldest / 1_000 if oldest >= 0 else None
