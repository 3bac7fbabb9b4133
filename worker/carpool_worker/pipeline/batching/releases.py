"""Takes what has ended off what the doors count as waiting, so that quotas have room again at once.

What is not taken off here, as a process died or Redis was away, is found by the next count of the tables.
"""

from __future__ import annotations

from collections.abc import Sequence

import redis
import sqlalchemy as sa
from redis.exceptions import RedisError

from carpool_worker.coordination import loads
from carpool_worker.database import read
from carpool_worker.store.reports import clients


class Releases:
    """What a process knows of the doors' counts: only what ended after it was read can be taken off."""

    def __init__(self) -> None:
        self._known = loads.Loads()

    def begin(self, server: redis.Redis) -> None:
        """Read the counts; to be called before requests end. If Redis is away, nothing can be taken off."""
        try:
            self._known = loads.read_loads(server)
        except RedisError:
            self._known = loads.Loads()

    def ended(self, engine: sa.Engine, server: redis.Redis, request_ids: Sequence[str]) -> None:
        """Take requests off that have ended, and are committed.

        Raises:
            redis.RedisError, sqlalchemy.exc.OperationalError: Redis or the database is away.
        """
        known = self._known
        if known.waiting and request_ids:
            with read(engine) as connection:
                ended = clients.loads_of(connection, request_ids, known.waiting.keys())
            if ended:
                loads.release(server, known.epoch, ended)
        self.begin(server)
