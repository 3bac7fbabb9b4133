"""Tells producers that wait for requests which nobody has enqueued, as soon as that is certain.

An entry stays in the inbox until its requests are committed. So once the oldest one there is younger than a wait, what
was enqueued before the wait is in the tables, or in the quarantine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
import sqlalchemy as sa

from carpool.contract import REPLY_TTL, Wait, is_keyed
from carpool.not_there import NOT_THERE, NotThere, encode_not_there
from carpool_worker import database
from carpool_worker.pipeline.inbox import shards
from carpool_worker.store.requests import rows as requests
from carpool_worker.units import DAY, Milliseconds

SKEW = 1_000
"""Milliseconds that an entry must be younger than a wait: after a failover another machine's clock counts."""


def tell(
    connection: redis.Redis, engine: sa.Engine, wait: Wait, ids: Sequence[str], retention_days: float
) -> None:
    """Push a NotThere about those of `ids` that the wait's client has certainly not enqueued before the wait began."""
    if wait.age is None or not _is_read(connection, wait.age):
        return
    with database.read(engine) as sql:  # after the look at the inbox: what was in it is in the tables now
        missing = set(ids) - requests.of_client(sql, ids, wait.client)
    if not missing:
        return
    kept_since = database.now() - round(retention_days * DAY) if retention_days else 0
    forgotten = {id_ for id_ in missing if not is_keyed(id_) and _made_at(id_) < kept_since}
    found = NotThere(sorted(missing - forgotten), sorted(forgotten))
    with connection.pipeline(transaction=False) as pipeline:
        pipeline.rpush(wait.reply_to, NOT_THERE + encode_not_there(found))
        pipeline.expire(wait.reply_to, REPLY_TTL)
        pipeline.execute()


def _is_read(connection: redis.Redis, age: int) -> bool:
    """Return whether nothing is in the inbox that was there when a wait of this age (milliseconds) began."""
    seconds, micros = connection.time()
    began = int(seconds) * 1_000 + int(micros) // 1_000 - age
    with connection.pipeline(transaction=False) as pipeline:
        for shard in shards.SHARDS:
            pipeline.xrange(shard.inbox, "-", f"{began + SKEW}", count=1)
        older: list[Any] = pipeline.execute()
    return not any(older)


def _made_at(request_id: str) -> Milliseconds:
    """Return when an id was minted that is a UUIDv7."""
    return Milliseconds(int(request_id[:12], 16))
