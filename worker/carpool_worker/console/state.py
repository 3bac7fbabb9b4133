"""What the pages of one console process share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import jinja2
import redis
import sqlalchemy as sa
from aiohttp import web

from carpool_worker import database
from carpool_worker.console.attempts import WrongPasswords
from carpool_worker.console.cache import PageCache
from carpool_worker.console.charts import ChartScript
from carpool_worker.console.rendering import environment
from carpool_worker.console.sessions import Sessions
from carpool_worker.gateway.key_cache import KeyCache
from carpool_worker.processes.listening import Listening
from carpool_worker.settings import Settings

T = TypeVar("T")


class Console:
    """One process: its settings, its connections, its sessions, and its templates."""

    def __init__(self, settings: Settings, engine: sa.Engine, listening: Listening) -> None:
        self.settings = settings
        self.engine = engine
        self.listening = listening
        self.server: redis.Redis = settings.redis()
        self.templates: jinja2.Environment = environment()
        self.cached = PageCache()
        self.chart_script = ChartScript()
        self.wrong_passwords = WrongPasswords()
        self.keys = KeyCache(engine)
        secure = bool(listening.certificate or listening.behind_proxy)
        self.sessions = Sessions(settings, self.keys, secure)
        self.stopping = asyncio.Event()

    async def run(self, ask: Callable[[], T]) -> T:
        """Return what a view or an operation returns, called in a thread; these open their own transactions."""
        return await asyncio.to_thread(ask)

    async def read(self, ask: Callable[[sa.Connection], T]) -> T:
        """Return what a function finds in the database, called in a thread and in a transaction that only reads."""

        return await asyncio.to_thread(self.run_read, ask)

    def run_read(self, ask: Callable[[sa.Connection], T]) -> T:
        """Return what a function finds in the database, in a transaction that only reads; for a thread."""
        with database.read(self.engine) as connection:
            return ask(connection)

    async def asks_redis(self) -> None:
        """Raise RedisError unless Redis answers."""
        await asyncio.to_thread(self.server.ping)

    async def asks_database(self) -> None:
        """Raise SQLAlchemyError unless the database answers."""
        await self.read(lambda connection: connection.execute(sa.text("SELECT 1")))

    async def close(self) -> None:
        """Close the connections to Redis, and wait until it is written when keys were used."""
        await self.cached.close()
        await self.keys.close()
        await asyncio.to_thread(self.server.close)


CONSOLE: web.AppKey[Console] = web.AppKey("console", Console)
