"""Overview: how everything stands."""

from __future__ import annotations

from aiohttp import web

from carpool_worker.console.page_calls import PageCall
from carpool_worker.views.status import status


async def show(page: PageCall) -> web.StreamResponse:
    """Answer with the overview."""
    console = page.console
    found = await console.run(lambda: status(console.engine, console.server, console.settings))
    return page.draw("overview.html", status=found)
