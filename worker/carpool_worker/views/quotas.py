"""Quotas: how many requests of a client, or of a key of the gateway, may wait, and how many do, as the doors count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis

from carpool.quotas import OF_KEYS, QUOTAS
from carpool_worker.coordination.loads import NOTHING, read_loads
from carpool_worker.formatting import counted, size
from carpool_worker.policies.quotas import DEFAULT, Quota


@dataclass(frozen=True, kw_only=True)
class QuotaView:
    """The quota of a client, and what waits; bytes are those of params. None: no limit."""

    client: str
    requests: int | None
    bytes: int | None
    waiting_requests: int
    waiting_bytes: int
    refused: int  # how often it was reached, since the client was limited

    @property
    def share(self) -> float:
        """How much of it is used: 1.0 is all."""
        used = ((self.waiting_requests, self.requests), (self.waiting_bytes, self.bytes))
        return max(waiting / limit for waiting, limit in used if limit)

    def __str__(self) -> str:
        parts = [f"{self.waiting_requests:,} of {counted(self.requests, 'request')}"] if self.requests else []
        parts += [f"{size(self.waiting_bytes)} of {size(self.bytes)}"] if self.bytes else []
        return ", ".join(parts)


def quota_view(client: str, quota: Quota, waiting: tuple[int, int], refused: int = 0) -> QuotaView:
    """Return the quota of a client that has so many requests waiting, of so many bytes."""
    requests, bytes_ = waiting
    return QuotaView(
        client=client,
        requests=quota.requests,
        bytes=quota.bytes,
        waiting_requests=requests,
        waiting_bytes=bytes_,
        refused=refused,
    )


def read_quotas(server: redis.Redis) -> Sequence[QuotaView]:
    """Return the quotas of clients that have one, or have something waiting under the default one; fullest first.

    Raises:
        redis.RedisError.
    """
    given: dict[bytes, bytes] = cast("Any", server.hgetall(QUOTAS))
    if not given:
        return []
    loads, quotas = read_loads(server), {name.decode(): _quota(limits) for name, limits in given.items()}
    names = {*(quotas.keys() - {DEFAULT}), *(name for name in loads.waiting if not name.startswith(OF_KEYS))}
    found = [
        quota_view(name, quota, loads.waiting.get(name, NOTHING), loads.refused.get(name, 0))
        for name in names
        if (quota := quotas.get(name) or quotas.get(DEFAULT))
    ]
    return sorted(found, key=lambda one: (-one.share, one.client))


def _quota(limits: bytes) -> Quota:
    requests, bytes_ = map(int, limits.split())
    return Quota(requests=requests or None, bytes=bytes_ or None)
