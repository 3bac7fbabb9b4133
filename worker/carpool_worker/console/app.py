"""The application: what every page passes, and the routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import sqlalchemy as sa
from aiohttp import web
from aiohttp.typedefs import Handler

from carpool_worker.console.page_calls import PageCall
from carpool_worker.console.routes import ROUTES, TABS, PageRoute
from carpool_worker.console.state import CONSOLE, Console
from carpool_worker.settings import Settings

STATIC = Path(__file__).parent / "static"

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",  # the lengths of bars
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
"""Of every answer: nothing is loaded from another host, nothing is shown inside somebody else's page."""


def create_app(settings: Settings, engine: sa.Engine) -> web.Application:
    """Return the application; it closes its connections when it is cleaned up."""
    app = web.Application(middlewares=[_protect])
    app[CONSOLE] = Console(settings, engine)
    app.cleanup_ctx.append(_run)
    for route in ROUTES:
        app.router.add_route(route.method, route.path, _answering(app[CONSOLE], route))
    app.router.add_static("/static", STATIC)
    return app


@web.middleware
async def _protect(request: web.Request, handler: Handler) -> web.StreamResponse:
    response = await handler(request)
    response.headers.update(HEADERS)
    return response


def _answering(console: Console, route: PageRoute) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await route.answer(PageCall(request, console, route.tab, TABS))

    return answer


async def _run(app: web.Application) -> AsyncIterator[None]:
    yield
    await app[CONSOLE].close()
