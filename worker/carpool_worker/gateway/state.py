"""What the calls of one gateway process share."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import sqlalchemy as sa
import uuid_utils
from aiohttp import web

from carpool.aio_connections import LoopConnections
from carpool.options import DEFAULT_MAX_QUEUED, Options
from carpool_worker import database
from carpool_worker.gateway.acceptances import Acceptances
from carpool_worker.gateway.batch_cache import BatchCache
from carpool_worker.gateway.claims import CallClaims
from carpool_worker.gateway.errors import FULL_RETRY_AFTER, GatewayError
from carpool_worker.gateway.gathering import GatheredCommands
from carpool_worker.gateway.key_budgets import KeyBudgets
from carpool_worker.gateway.key_cache import KeyCache
from carpool_worker.gateway.quotas import GatewayQuotas
from carpool_worker.gateway.replies import ReplyReader
from carpool_worker.gateway.spool_room import Spools
from carpool_worker.gateway.upstream import Upstream
from carpool_worker.settings import Settings

T = TypeVar("T")

MOST_PREPARED = 500
"""Calls that are checked and enqueued at the same time: with each, several copies of its body are in memory."""

CLIENT = "gateway"
"""The client of the connections to Redis; each request has that of its key."""


class Gateway:
    """One process: its settings, its connections, and what it is doing."""

    def __init__(self, settings: Settings, engine: sa.Engine) -> None:
        self.id = uuid_utils.uuid7().hex
        self.settings = settings
        self.engine = engine
        options = Options.resolve(
            settings.redis_url,
            CLIENT,
            DEFAULT_MAX_QUEUED,
            allow_http=False,
            inbox_shards=settings.inbox_shards,
            key_prefix=settings.key_prefix,
        )
        self.options = replace(options, knows_quotas=bool(settings.quotas))
        self.redis = LoopConnections(self.options)
        self.keys = KeyCache(engine)
        self.commands = GatheredCommands(self.options, self.redis)
        self.claims = CallClaims(self.commands, self.id)
        self.replies = ReplyReader(self.redis)
        self.upstream = Upstream(settings.accounts)
        self.key_budgets = KeyBudgets(engine)
        self.quotas = GatewayQuotas(settings, engine, self.redis.appends)
        self.acceptances = Acceptances(self.claims, self.redis.appends, self.quotas)
        self.spools = Spools()
        self.shown_batches = BatchCache()
        self.preparing = asyncio.Semaphore(MOST_PREPARED)
        """Held from when a call's body has come until its request is in the inbox."""
        self.held = 0
        """Calls that wait for their answer now."""
        self.nothing_held = asyncio.Event()
        self.nothing_held.set()
        self.answered: Counter[int] = Counter()
        """Calls that were answered since the start, by their status."""
        self.is_draining = False

    def options_of(self, client: str) -> Options:
        """Return the options of commands of a client."""
        return replace(self.options, client=client)

    def take_place(self) -> None:
        """Take one of the places for calls that wait; raises GatewayError if none is free."""
        if self.held >= self.settings.gateway_most_held:
            message = "Overloaded: this gateway holds as many calls as it may (gateway_most_held)."
            raise GatewayError(529, message, retry_after=FULL_RETRY_AFTER)
        self.held += 1
        self.nothing_held.clear()

    def leave_place(self) -> None:
        """Give a place back."""
        self.held -= 1
        if not self.held:
            self.nothing_held.set()

    async def read(self, ask: Callable[[sa.Connection], T]) -> T:
        """Return what a function finds in the database, called in a thread and in a transaction that only reads."""

        def run() -> T:
            with database.read(self.engine) as connection:
                return ask(connection)

        return await asyncio.to_thread(run)

    async def write(self, change: Callable[[sa.Connection], T]) -> T:
        """Do the same in a transaction that is committed."""

        def run() -> T:
            with database.write(self.engine) as connection:
                return change(connection)

        return await asyncio.to_thread(run)


GATEWAY: web.AppKey[Gateway] = web.AppKey("gateway", Gateway)
