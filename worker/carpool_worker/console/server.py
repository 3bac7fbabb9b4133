"""The process of a console: it listens until a signal stops it."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import sqlalchemy as sa
import uvloop
from aiohttp import web
from pydantic import SecretStr

from carpool_worker.console import sign_on
from carpool_worker.console.app import create_app
from carpool_worker.console.users import of_key
from carpool_worker.database import now, read
from carpool_worker.exceptions import WorkerError
from carpool_worker.processes.listening import Listening
from carpool_worker.settings import Settings
from carpool_worker.views import keys

SHUTDOWN_SECONDS = 2.0
"""How long answers that are being sent may take to end."""


class NobodyMaySignOn(WorkerError):
    """There is neither a password nor a key that opens the console."""


def serve(
    settings: Settings, engine: sa.Engine, listening: Listening, started: Callable[[str], None]
) -> None:
    """Serve until SIGINT or SIGTERM; `started` is called with the link that signs on, once pages are answered.

    Beyond this machine the link does not sign on by itself.

    Raises:
        Exposed: others could read along.
        NobodyMaySignOn: others could connect, and nobody could sign on.
    """
    listening.check()
    if not listening.is_loopback or listening.behind_proxy:
        _check_somebody_may(settings, engine)
    uvloop.run(_serve_until_signal(settings, engine, listening, started))


@asynccontextmanager
async def serving(settings: Settings, engine: sa.Engine, listening: Listening) -> AsyncIterator[str]:
    """Serve while the context lasts; yield the URL."""
    app = create_app(settings, engine, listening)
    # No log of what is asked for: the link that signs on has the password, and searches what people have written.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        site = web.TCPSite(runner, listening.host, listening.port, ssl_context=listening.tls())
        await site.start()
        yield listening.url(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def _serve_until_signal(
    settings: Settings, engine: sa.Engine, listening: Listening, started: Callable[[str], None]
) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    alone = listening.is_loopback and not listening.behind_proxy
    if alone and not settings.console_password.get_secret_value():
        settings = settings.model_copy(update={"console_password": SecretStr(secrets.token_urlsafe(24))})
    async with serving(settings, engine, listening) as url:
        started(sign_on.link(url, settings.console_password.get_secret_value()) if alone else url)
        await stopped.wait()


def _check_somebody_may(settings: Settings, engine: sa.Engine) -> None:
    if settings.console_password.get_secret_value():
        return
    with read(engine) as connection:
        if keys.any_that(connection, lambda key: key.is_valid(now()) and of_key(key) is not None):
            return
    raise NobodyMaySignOn(
        "Nobody could sign on: set CARPOOL_CONSOLE_PASSWORD, or make a key: "
        "carpool keys create operators --scope look,act"
    )
