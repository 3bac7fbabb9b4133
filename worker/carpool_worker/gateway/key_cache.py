"""Keys of the gateway as a process knows them: a key is looked up again every few seconds at most.

So a key that is revoked or changed is refused or changed within 5 seconds, without a query for each request.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from time import monotonic

import sqlalchemy as sa

from carpool_worker.database import now, read, write
from carpool_worker.policies.keys import GatewayKey, hash_of, is_well_formed
from carpool_worker.store import gateway_keys
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import SECOND

log = get_logger(__name__)

FRESH_SECONDS = 3.0
"""How old what is known of a key may be; the query takes the rest of the 5 seconds, and there is some to spare."""

MOST_KNOWN = 10_000
"""Secrets that are remembered, wrong ones too: who tries many must not take the memory."""

TOUCH_SECONDS = gateway_keys.TOUCH_INTERVAL / SECOND


@dataclass(frozen=True, slots=True)
class _Known:
    """What the tables said about a secret."""

    key: GatewayKey | None
    read_at: float  # by the monotonic clock, before the query


class KeyCache:
    """The keys that came to this process lately. It belongs to one event loop."""

    def __init__(self, engine: sa.Engine, fresh_seconds: float = FRESH_SECONDS) -> None:
        self._engine = engine
        self._fresh_seconds = fresh_seconds
        self._known: OrderedDict[str, _Known] = OrderedDict()  # by the secret's hash
        self._loading: dict[str, asyncio.Task[_Known]] = {}
        self._touched: dict[str, float] = {}  # by the key's id
        self._writing: set[asyncio.Task[None]] = set()

    async def find(self, secret: str) -> GatewayKey | None:
        """Return the key of a secret, or None where there is none, or it is revoked or expired.

        Raises:
            sqlalchemy.exc.OperationalError: the database is away, and what was known of the key is too old.
        """
        secret_hash = hash_of(secret)
        if self._remembered(secret_hash) is None and not is_well_formed(secret):
            return None
        return await self.find_hashed(secret_hash)

    async def find_hashed(self, secret_hash: str) -> GatewayKey | None:
        """Return the key with a secret of this SHA-256, as `find` does."""
        known = self._remembered(secret_hash) or await self._looked_up(secret_hash)
        if known.key is None or not known.key.is_valid(now()):
            return None
        self._touch(known.key)
        return known.key

    def forget(self) -> None:
        """Look up every key again when it comes next."""
        self._known.clear()

    async def close(self) -> None:
        """Wait until it is written when keys were used."""
        await asyncio.gather(*self._writing, *self._loading.values(), return_exceptions=True)

    def _remembered(self, secret_hash: str) -> _Known | None:
        known = self._known.get(secret_hash)
        if known is None or monotonic() - known.read_at >= self._fresh_seconds:
            return None
        self._known.move_to_end(secret_hash)
        return known

    async def _looked_up(self, secret_hash: str) -> _Known:
        task = self._loading.get(secret_hash)
        if task is None:
            task = asyncio.create_task(self._load(secret_hash))
            self._loading[secret_hash] = task
            task.add_done_callback(lambda _: self._loading.pop(secret_hash, None))
        return await asyncio.shield(task)  # others wait for it, too

    async def _load(self, secret_hash: str) -> _Known:
        read_at = monotonic()
        known = _Known(await asyncio.to_thread(self._read, secret_hash), read_at)
        self._known[secret_hash] = known
        self._known.move_to_end(secret_hash)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return known

    def _read(self, secret_hash: str) -> GatewayKey | None:
        with read(self._engine) as connection:
            return gateway_keys.find(connection, secret_hash)

    def _touch(self, key: GatewayKey) -> None:
        touched_at = self._touched.get(key.id)
        if touched_at is not None and monotonic() - touched_at < TOUCH_SECONDS:
            return
        self._touched[key.id] = monotonic()
        task = asyncio.create_task(self._write(key.id))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write(self, id_: str) -> None:
        try:
            await asyncio.to_thread(self._write_use, id_)
        except sa.exc.SQLAlchemyError as error:
            self._touched.pop(id_, None)  # it is tried again when the key comes next
            log.warning("use of a key not recorded", error=type(error).__name__)

    def _write_use(self, id_: str) -> None:
        with write(self._engine) as connection:
            gateway_keys.touch(connection, {id_: now()})
