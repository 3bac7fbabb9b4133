"""What a key and its client may have waiting, at the gateway's door.

It is decided where requests are counted, in Redis. Where Redis has lost that, or has never known it of a key, a gateway
counts in the tables first: it knows the settings and the keys, and lets nobody in on a guess.
"""

from __future__ import annotations

import asyncio

import redis
import sqlalchemy as sa

from carpool.entries import CheckedRequest
from carpool.grouping import GroupedAppend
from carpool_worker.database import read
from carpool_worker.pipeline.batching.recounter import recount
from carpool_worker.settings import Settings
from carpool_worker.store.requests import rows

REDIS_SECONDS = 5.0
"""How long Redis may take to answer while the tables are counted, or a batch is stored."""


class GatewayQuotas:
    """The quotas as this process sees them. It belongs to one event loop."""

    def __init__(self, settings: Settings, engine: sa.Engine, appends: GroupedAppend) -> None:
        self._settings = settings
        self._engine = engine
        self._appends = appends
        timeouts = {"socket_timeout": REDIS_SECONDS, "socket_connect_timeout": REDIS_SECONDS}
        self.server: redis.Redis = settings.redis(**timeouts)
        """For threads; the event loop has connections of its own."""
        self._counting: asyncio.Task[None] | None = None

    async def append_again(self, request: CheckedRequest) -> None:
        """Put a request into the inbox which Redis could not judge: what waits is counted first.

        Raises:
            QueueFull: a quota of its client or its key is reached, or the inbox is full.
            RedisUnavailable, QuotasUnknown, sqlalchemy.exc.OperationalError: Redis or the database is away.
        """
        await self._count()
        await self._appends.append(request)

    async def has_place(self, request_id: str) -> bool:
        """Return whether a request is in the tables, so that it needs no room.

        Raises:
            sqlalchemy.exc.OperationalError: the database is away.
        """
        return await asyncio.to_thread(self._is_stored, request_id)

    async def close(self) -> None:
        """Close the connections for threads."""
        await asyncio.gather(*([self._counting] if self._counting else []), return_exceptions=True)
        self.server.close()

    def count(self) -> None:
        """Count the tables, in this thread.

        Raises:
            redis.RedisError, sqlalchemy.exc.OperationalError: Redis or the database is away.
        """
        recount(self._engine, self.server, self._settings.quotas, at_once=True)

    def _is_stored(self, request_id: str) -> bool:
        with read(self._engine) as connection:
            return bool(rows.known(connection, [request_id]))

    async def _count(self) -> None:
        if self._counting is None or self._counting.done():
            self._counting = asyncio.create_task(asyncio.to_thread(self.count))
        await asyncio.shield(self._counting)  # others wait for it, too
