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
from carpool_worker.gateway.request_id import FOR_ORIGIN, REQUEST_ID, common_headers, new_request_id
from carpool_worker.gateway.routes import OPEN, ROUTES
from carpool_worker.gateway.state import GATEWAY, Gateway
from carpool_worker.policies.keys import Scope
from carpool_worker.settings import Settings
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)

Awaited = Awaitable[web.StreamResponse]

Answer = Callable[[web.Request], Awaited]


class DirectRoutes:
    """Answers the calls that come most without aiohttp's router and middlewares, and passes the others on to these."""

    def __init__(self, app: web.Application, others: Callable[[web.BaseRequest], Awaited]) -> None:
        self._gateway = app[GATEWAY]
        self._others = others
        self._answers: dict[str, tuple[str, Answer]] = {}  # with their prefixes, by path
        for prefix in ("", *self._gateway.settings.gateway_prefixes):
            for route in ROUTES:
                if route.is_direct:
                    answer = _with_key(self._gateway, route.answer, route.scope)
                    self._answers[prefix + route.path] = prefix, answer

    def __call__(self, request: web.BaseRequest) -> Awaited:
        """Return what becomes the call's answer."""
        found = self._answers.get(request.raw_path.partition("?")[0]) if request.method == "POST" else None
        if found is None or "expect" in request.headers or not isinstance(request, web.Request):
            return self._others(request)
        request[PREFIX], answer = found
        return answer_all(self._gateway, request, answer)


def create_app(settings: Settings, engine: sa.Engine) -> web.Application:
    """Return the application; it opens its connections when it starts, and closes them when it is cleaned up."""
    gateway = Gateway(settings, engine)

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await answer_all(gateway, request, handler)

    app = web.Application(middlewares=[answer])
    app[GATEWAY] = gateway
    app.cleanup_ctx.append(_run)
    for prefix in ("", *settings.gateway_prefixes):
        for route in ROUTES:
            _add(app, route.method, prefix, route.path, _with_key(gateway, route.answer, route.scope))
        for open_route in OPEN:
            _add(app, open_route.method, prefix, open_route.path, open_route.answer)
    return app


async def answer_all(gateway: Gateway, request: web.Request, answer: Answer) -> web.StreamResponse:
    """Give a call its id, and whatever happens in it an answer."""
    request[REQUEST_ID] = new_request_id()
    if origins := gateway.settings.gateway_origins:
        request[FOR_ORIGIN] = origin_headers(request, origins)
    connection = request.protocol
    if isinstance(connection, GatewayConnection):
        connection.begin_call()
    try:
        response = preflight(request, origins) or await answer(request)
    except ConnectionError:
        return web.Response()  # to a caller that has gone
    except Exception as error:
        response = _refusal(request, error)
        if request.writer.output_size and request.transport is not None:
            request.transport.close()  # an answer had begun: its end is missed, and no other can follow
    finally:
        if isinstance(connection, GatewayConnection):
            connection.end_call()
    gateway.answered[response.status] += 1
    if not response.prepared:
        response.headers.update(common_headers(request))
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


async def _run(app: web.Application) -> AsyncIterator[None]:
    gateway = app[GATEWAY]
    presence = Presence(gateway)
    gateway.replies.start()
    await presence.start()
    yield
    gateway.claims.tell()
    await gateway.commands.all_replied()
    await gateway.replies.close()
    await presence.close()
    await gateway.keys.close()
    await gateway.upstream.close()
    await gateway.quotas.close()
    await gateway.redis.close()


def _add(app: web.Application, method: str, prefix: str, path: str, answer: Answer) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        request[PREFIX] = prefix
        return await answer(request)

    if method == "GET":
        app.router.add_get(prefix + path, handler)  # and HEAD
    else:
        app.router.add_route(method, prefix + path, handler)


def _with_key(gateway: Gateway, answer: Answering, scope: Scope | None) -> Answer:
    async def with_key(request: web.Request) -> web.StreamResponse:
        if gateway.is_draining:  # the connection was being made, or the call being read, as it began to end
            raise GatewayError(503, "This gateway is ending. Try again.", retry_after=1)
        key = await authenticate(gateway, request, scope)
        return await answer(Call(request, key, gateway))

    return with_key
