"""How many requests of a key wait for their answers, at the door: a key with `most_queued` has no more of them.

They are counted in the tables every two seconds at most. What this process has let in is added until the tables have
it; what other gateways let in is seen a moment later, so that the limit may be exceeded by what comes in that time.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from time import monotonic

import sqlalchemy as sa

from carpool_worker.database import read
from carpool_worker.gateway.errors import FULL_RETRY_AFTER, GatewayError
from carpool_worker.gateway.key_budgets import AGAIN_SECONDS, FRESH_SECONDS, PENDING_SECONDS
from carpool_worker.policies.keys import GatewayKey
from carpool_worker.store.reports import clients
from carpool_worker.store.requests import rows as requests


@dataclass(frozen=True, slots=True)
class _KnownQueue:
    """How many of a key's requests were waiting."""

    count: int
    read_at: float  # by the monotonic clock


class KeyQueues:
    """The requests of keys that wait, as far as this process knows. It belongs to one event loop."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._known: dict[str, _KnownQueue] = {}  # by the key's id, as the others
        self._pending: defaultdict[str, dict[str, float]] = defaultdict(
            dict
        )  # when each was let in, by its id
        self._reading: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def check(self, key: GatewayKey, request_id: str) -> None:
        """Let a new request in.

        Raises:
            GatewayError: 429, as the key has as many requests without an answer as it may.
            sqlalchemy.exc.OperationalError: the database can't be reached.
        """
        most = key.most_queued
        if most is None:
            return
        if (
            await self._waiting(key, FRESH_SECONDS) >= most
            and await self._waiting(key, AGAIN_SECONDS) >= most
        ):
            message = f"This key may have {most:,} requests without an answer (most_queued)."
            raise GatewayError(429, message, retry_after=FULL_RETRY_AFTER)
        self._pending[key.id][request_id] = monotonic()

    async def _waiting(self, key: GatewayKey, seconds: float) -> int:
        async with self._reading[key.id]:
            known = self._known.get(key.id)
            if not (known and monotonic() - known.read_at < seconds):
                known = await self._load(key)
        return known.count + len(self._pending[key.id])

    async def _load(self, key: GatewayKey) -> _KnownQueue:
        read_at, waiting = monotonic(), self._pending[key.id]
        pending = list(waiting)
        count, stored = await asyncio.to_thread(self._read, key, pending)
        for id_ in pending:
            if id_ in stored or waiting[id_] < read_at - PENDING_SECONDS:
                del waiting[id_]
        known = self._known[key.id] = _KnownQueue(count, read_at)
        return known

    def _read(self, key: GatewayKey, pending: Sequence[str]) -> tuple[int, Collection[str]]:
        with read(self._engine) as connection:
            count = clients.waiting_of_key(connection, key.client, key.name)
            return count, requests.known(connection, pending) if pending else ()
