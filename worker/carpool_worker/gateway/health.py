"""Routes that need no key: whether this process lives, and whether it can take calls."""

from __future__ import annotations

import asyncio

import sqlalchemy as sa
from aiohttp import web

from carpool.contract import to_json
from carpool_worker.gateway.answering import json_answer
from carpool_worker.gateway.errors import AWAY
from carpool_worker.gateway.state import GATEWAY, Gateway

READY_SECONDS = 3.0
"""How long Redis and the database may take to answer."""


async def home(request: web.Request) -> web.Response:
    """Answer / for those who look whether anybody is here."""
    return json_answer(b'{"type":"carpool_gateway"}')


async def alive(request: web.Request) -> web.Response:
    """Answer /healthz: this process answers."""
    return json_answer(b'{"status":"ok"}')


async def ready(request: web.Request) -> web.Response:
    """Answer /readyz: 200 if this gateway takes calls, else 503; load balancers send it none then."""
    gateway = request.app[GATEWAY]
    missing = [name for name, is_there in await _reached(gateway) if not is_there]
    if gateway.is_draining:
        missing.append("draining")
    body = to_json({"status": "unavailable" if missing else "ok", "missing": missing})
    return json_answer(body, 503 if missing else 200)


async def _reached(gateway: Gateway) -> list[tuple[str, bool]]:
    found = await asyncio.gather(_asks_redis(gateway), _asks_database(gateway))
    return list(zip(("redis", "database"), found, strict=True))


async def _asks_redis(gateway: Gateway) -> bool:
    try:
        async with asyncio.timeout(READY_SECONDS):
            await gateway.commands.run(("PING",))
    except (*AWAY, TimeoutError):
        return False
    return True


async def _asks_database(gateway: Gateway) -> bool:
    try:
        async with asyncio.timeout(READY_SECONDS):
            await gateway.read(lambda connection: connection.execute(sa.text("SELECT 1")))
    except (*AWAY, TimeoutError):
        return False
    return True
