"""The application: what every call passes, and the routes with their prefixes."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import sqlalchemy as sa
from aiohttp import web
from aiohttp.typedefs import Handler

from carpool_worker.gateway.authentication import authenticate
from carpool_worker.gateway.calls import Answering, Call
from carpool_worker.gateway.connections import GatewayConnection
from carpool_worker.gateway.errors import GatewayError, as_gateway_error
from carpool_worker.gateway.forwarded import PREFIX
from carpool_worker.gateway.origins import origin_headers, preflight
from carpool_worker.gateway.presence import Presence
from carpool_worker.gateway.request_id import REQUEST_ID, new_request_id
from carpool_worker.gateway.routes import OPEN, ROUTES
from carpool_worker.gateway.state import GATEWAY, Gateway
from carpool_worker.policies.keys import Scope
from carpool_worker.settings import Settings
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def create_app(settings: Settings, engine: sa.Engine) -> web.Application:
    """Return the application; it opens its connections when it starts, and closes them when it is cleaned up."""
    app = web.Application(middlewares=[answer_all])
    app[GATEWAY] = Gateway(settings, engine)
    app.on_response_prepare.append(_add_headers)
    app.cleanup_ctx.append(_run)
    for prefix in ("", *settings.gateway_prefixes):
        for route in ROUTES:
            _add(app, route.method, prefix, route.path, _with_key(route.answer, route.scope))
        for open_route in OPEN:
            _add(app, open_route.method, prefix, open_route.path, open_route.answer)
    return app


@web.middleware
async def answer_all(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give a call its id, and whatever happens in it an answer."""
    request[REQUEST_ID] = new_request_id()
    connection, gateway = request.protocol, request.app[GATEWAY]
    if isinstance(connection, GatewayConnection):
        connection.begin_call()
    try:
        response = preflight(request) or await handler(request)
    except ConnectionError:
        return web.Response()  # to a caller that has gone
    except Exception as error:
        response = _refusal(request, error)
    finally:
        if isinstance(connection, GatewayConnection):
            connection.end_call()
    gateway.answered[response.status] += 1
    return response


def _refusal(request: web.Request, error: Exception) -> web.Response:
    refusal = as_gateway_error(error)
    if refusal is None:
        # Neither its text nor the call's path is logged: either may quote what the caller sent.
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        log.error("call failed", request_id=request[REQUEST_ID], error=type(error).__name__, place=place)
        refusal = GatewayError(500, "Internal error.")
    return refusal.response(request[REQUEST_ID])


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["request-id"] = request[REQUEST_ID]
    response.headers.update(origin_headers(request))


async def _run(app: web.Application) -> AsyncIterator[None]:
    gateway = app[GATEWAY]
    presence = Presence(gateway)
    gateway.replies.start()
    await presence.start()
    yield
    await gateway.claims.settle()
    await gateway.replies.close()
    await presence.close()
    await gateway.keys.close()
    await gateway.upstream.close()
    await gateway.redis.close()


def _add(app: web.Application, method: str, prefix: str, path: str, answer: Answer) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        request[PREFIX] = prefix
        return await answer(request)

    if method == "GET":
        app.router.add_get(prefix + path, handler)  # and HEAD
    else:
        app.router.add_route(method, prefix + path, handler)


def _with_key(answer: Answering, scope: Scope | None) -> Answer:
    async def with_key(request: web.Request) -> web.StreamResponse:
        gateway = request.app[GATEWAY]
        key = await authenticate(gateway, request, scope)
        return await answer(Call(request, key, gateway))

    return with_key
