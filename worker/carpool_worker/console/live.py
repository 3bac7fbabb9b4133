"""Server-sent events that tell open pages when something has moved, so that they ask for their sections again."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import sqlalchemy as sa
from aiohttp import web
from redis.exceptions import RedisError

from carpool_worker.console.page_calls import PageCall
from carpool_worker.console.protection import add_headers
from carpool_worker.console.simulators import simulator_url
from carpool_worker.console.state import Console
from carpool_worker.database import now
from carpool_worker.units import DAY, Milliseconds
from carpool_worker.views.activity import Activity, activity

ACTIVITY_SECONDS, TRIED_SECONDS = 25.0, 2.0
"""How old what is shown to move may be: some ten statements, so that an open page costs less than one a second; and
beside the simulator of `carpool up`, where somebody watches a request of their own."""

LOOK_SECONDS = 2.0
SILENT_SECONDS = 20.0
"""Between two looks at it; and after which a connection is shown to live, so that nobody takes it for dead."""


async def moving(console: Console) -> Activity:
    """Return what moves, and what has ended within a day, as it was a few seconds ago."""

    async def ask() -> Activity:
        since = Milliseconds(now() - DAY)
        return await console.run(lambda: activity(console.engine, console.server, since))

    seconds = TRIED_SECONDS if simulator_url() else ACTIVITY_SECONDS
    return await console.cached.get("activity", seconds, ask)


async def follow(page: PageCall) -> web.StreamResponse:
    """Answer /live: an event `changed` whenever what moves differs from what the page has last been told of."""
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    add_headers(response)
    await response.prepare(page.request)
    told, silent = await _known(page.console), 0.0
    await response.write(b"retry: 5000\n\n")
    while not await _stopping(page.console) and await page.still_signed_on():
        found, silent = await _known(page.console), silent + LOOK_SECONDS
        if found is not None and found != told:
            await response.write(b"event: changed\ndata: {}\n\n")
            told, silent = found, 0.0
        elif silent >= SILENT_SECONDS:
            await response.write(b": nothing new\n\n")
            silent = 0.0
    return response


async def _known(console: Console) -> Activity | None:
    try:
        return await moving(console)
    except (RedisError, sa.exc.SQLAlchemyError):  # the page itself says so when it is loaded
        return None


async def _stopping(console: Console) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(LOOK_SECONDS):
            await console.stopping.wait()
    return console.stopping.is_set()
