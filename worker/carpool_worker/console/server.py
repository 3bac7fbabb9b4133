"""The process of a console: it listens until a signal stops it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import sqlalchemy as sa
import uvloop
from aiohttp import web

from carpool_worker.console.app import create_app
from carpool_worker.settings import Settings

SHUTDOWN_SECONDS = 2.0
"""How long answers that are being sent may take to end."""


def serve(
    settings: Settings, engine: sa.Engine, host: str, port: int, started: Callable[[str], None]
) -> None:
    """Serve until SIGINT or SIGTERM; `started` is called with the URL once pages are answered."""
    uvloop.run(_serve_until_signal(settings, engine, host, port, started))


@asynccontextmanager
async def serving(settings: Settings, engine: sa.Engine, host: str, port: int) -> AsyncIterator[str]:
    """Serve while the context lasts; yield the URL."""
    runner = web.AppRunner(create_app(settings, engine), shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        chosen = runner.addresses[0][1]
        yield f"http://{host}:{chosen}"
    finally:
        await runner.cleanup()


async def _serve_until_signal(
    settings: Settings, engine: sa.Engine, host: str, port: int, started: Callable[[str], None]
) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with serving(settings, engine, host, port) as url:
        started(url)
        await stopped.wait()
