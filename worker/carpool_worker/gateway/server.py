"""The process of a gateway: it listens, and when it is to end, it lets the calls that it holds come to their end."""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import sqlalchemy as sa
import uvloop
from aiohttp import web

from carpool_worker.gateway.answering import CallCut
from carpool_worker.gateway.app import DirectRoutes, create_app
from carpool_worker.gateway.connections import GatewayConnection, end_late_ones
from carpool_worker.gateway.state import GATEWAY, Gateway
from carpool_worker.processes.listening import Listening
from carpool_worker.settings import Settings
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)

BACKLOG = 4_096
"""Connections that the kernel keeps until they are accepted."""

COLLECT_AFTER = 20_000
"""Objects more than at the last collection of the youngest ones; Python's own number is 700."""

HANDSHAKE_SECONDS = 10.0

CUT_SECONDS = 5.0
"""How long calls that are cut off may take to end."""


def serve(
    settings: Settings, engine: sa.Engine, listening: Listening, started: Callable[[str], None]
) -> None:
    """Serve until SIGINT or SIGTERM; `started` is called with the URL once calls are taken."""
    listening.check()
    tls = listening.tls()
    _allow_connections()
    uvloop.run(_serve_until_signal(settings, engine, listening, tls, started))


@asynccontextmanager
async def serving(
    settings: Settings, engine: sa.Engine, listening: Listening, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Serve while the context lasts; yield the URL. At its end the calls that are held have `gateway_drain` seconds."""
    app = create_app(settings, engine)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    server = runner.server
    if server is None:
        raise RuntimeError("the runner is set up and has no server")
    server.request_handler = DirectRoutes(app, server.request_handler)
    late = asyncio.create_task(end_late_ones(server))
    listener = await asyncio.get_running_loop().create_server(
        lambda: GatewayConnection(server),
        listening.host,
        listening.port,
        ssl=tls,
        ssl_handshake_timeout=HANDSHAKE_SECONDS if tls else None,
        backlog=BACKLOG,
    )
    try:
        yield listening.url(listener.sockets[0].getsockname()[1])
    finally:
        listener.close()
        server.pre_shutdown()  # no further call on the connections that are there
        await _drain(app[GATEWAY])
        late.cancel()
        await server.shutdown(CUT_SECONDS)
        await runner.cleanup()


async def _drain(gateway: Gateway) -> None:
    gateway.is_draining = True
    held = gateway.held
    await _until_none_is_held(gateway, gateway.settings.gateway_drain)
    cut = gateway.held
    gateway.replies.cut(CallCut)
    await _until_none_is_held(gateway, CUT_SECONDS)
    log.info("gateway drained", held=held, cut=cut)


async def _until_none_is_held(gateway: Gateway, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await gateway.nothing_held.wait()


async def _serve_until_signal(
    settings: Settings,
    engine: sa.Engine,
    listening: Listening,
    tls: ssl.SSLContext | None,
    started: Callable[[str], None],
) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with serving(settings, engine, listening, tls) as url:
        _collect_less_often()
        started(url)
        await stopped.wait()


def _allow_connections() -> None:
    """Raise the limit of open files to the most that this process may have: each held call is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _collect_less_often() -> None:
    """Have Python look for reference cycles less often: ten thousand held calls are many objects, and few cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *gc.get_threshold()[1:])
