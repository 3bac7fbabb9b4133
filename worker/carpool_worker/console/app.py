"""The application: what every page passes, and the routes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import sqlalchemy as sa
from aiohttp import web
from aiohttp.typedefs import Handler
from redis.exceptions import RedisError

from carpool_worker.console import charts, sign_on, static_files
from carpool_worker.console.error_pages import answer_errors
from carpool_worker.console.page_calls import PageCall
from carpool_worker.console.protection import check_form, check_host, check_url, protect
from carpool_worker.console.refusals import NotAllowed, NotHere
from carpool_worker.console.routes import LIVE, ROUTES, TABS, PageRoute
from carpool_worker.console.state import CONSOLE, Console
from carpool_worker.processes.listening import Listening
from carpool_worker.settings import Settings

READY_SECONDS = 3.0
"""How long Redis and the database may take to answer."""


def create_app(settings: Settings, engine: sa.Engine, listening: Listening) -> web.Application:
    """Return the application; it closes its connections when it is cleaned up."""
    app = web.Application(middlewares=[protect, answer_errors, check_host])
    app[CONSOLE] = Console(settings, engine, listening)
    app.cleanup_ctx.append(_run)
    app.on_shutdown.append(_stop)
    for route in (*ROUTES, LIVE):
        app.router.add_route(route.method, route.path, _answering(app[CONSOLE], route))
    app.router.add_routes(sign_on.ROUTES)
    app.router.add_get("/healthz", _alive)
    app.router.add_get("/readyz", _ready)
    app.router.add_get(charts.script_url(), _chart_script)
    static_files.add(app)
    return app


def _answering(console: Console, route: PageRoute) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        session = console.sessions.read(request)
        user = await console.sessions.user(session) if session else None
        if session is None or user is None:
            return sign_on.to_sign_on(request)
        if user.client is not None and (route.operators_only or not route.tab.tenants):
            return _elsewhere(route)
        check_url(request)
        if request.method == "POST":
            await check_form(request, session)
        if not user.can(route.needs):
            raise NotAllowed(f"{user.name} has no permission to {route.needs.value}.")
        return await route.answer(PageCall(request, console, route.tab, TABS, session, user))

    return answer


def _elsewhere(route: PageRoute) -> web.Response:
    """Lead a tenant from / to the first page that is theirs, too; the others aren't there for them."""
    first = next((tab.path for tab in TABS if tab.tenants), None)
    if route.path != "/" or first is None:
        raise NotHere
    return web.Response(status=303, headers={"Location": first})


async def _chart_script(request: web.Request) -> web.StreamResponse:
    return await charts.answer(request.app[CONSOLE].chart_script)


async def _alive(request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def _ready(request: web.Request) -> web.StreamResponse:
    """Answer 200 if Redis and the database answer, else 503: load balancers send no reader here then."""
    console = request.app[CONSOLE]
    missing = []
    for name, ask in (("redis", console.asks_redis), ("database", console.asks_database)):
        try:
            async with asyncio.timeout(READY_SECONDS):
                await ask()
        except (RedisError, sa.exc.SQLAlchemyError, OSError, TimeoutError):
            missing.append(name)
    state = {"status": "unavailable" if missing else "ok", "missing": missing}
    return web.json_response(state, status=503 if missing else 200)


async def _stop(app: web.Application) -> None:
    app[CONSOLE].stopping.set()


async def _run(app: web.Application) -> AsyncIterator[None]:
    yield
    await app[CONSOLE].close()
