"""Counts in the tables what waits of whom, and tells the doors, with the quotas that the settings have."""

from __future__ import annotations

import time

import redis
import sqlalchemy as sa

from carpool.quotas import subject_of
from carpool_worker.coordination import loads
from carpool_worker.database import now, read
from carpool_worker.pipeline.inbox.shards import SHARDS
from carpool_worker.policies.quotas import DEFAULT, Quotas, until_count
from carpool_worker.store import gateway_keys
from carpool_worker.store.reports import clients
from carpool_worker.units import SECOND

RACES = 3
"""Counts in a row that somebody else was faster than; then theirs will do."""


def recount(engine: sa.Engine, server: redis.Redis, quotas: Quotas, *, at_once: bool = False) -> float | None:
    """Count what waits, if that is due; return in how many seconds it will be, if a count is wanted before.

    The `carpool.recount` task calls it every minute, and when a door has refused somebody or what has ended could not
    be taken off; a gateway `at_once`, when Redis has lost what it knew. A crash leaves what was counted before.

    Raises:
        redis.RedisError, sqlalchemy.exc.OperationalError: Redis or the database is away.
    """
    for _ in range(RACES):
        before = loads.read_loads(server)
        wait = until_count(now() - before.counted_at, before.took, is_wanted=before.is_wanted)
        if wait and before.epoch and not at_once:
            return wait / SECOND if before.is_wanted else None
        if _count(engine, server, quotas, before):
            break
    return None


def _count(engine: sa.Engine, server: redis.Redis, quotas: Quotas, before: loads.Loads) -> bool:
    began = time.monotonic()
    with read(engine) as connection:
        keys = gateway_keys.names_with_most_queued(connection)
        limited = None if DEFAULT in quotas else set(quotas)
        counted = clients.loads(connection, limited, keys) if quotas or keys else {}
    took = round((time.monotonic() - began) * SECOND)
    said = {client: str(quota) for client, quota in quotas.items()}
    kept = [*(client for client in quotas if client != DEFAULT), *map(subject_of, keys)]
    streams = [shard.inbox for shard in SHARDS]
    return loads.publish(server, before, counted, said, kept, streams=streams, at=now(), took=took)
