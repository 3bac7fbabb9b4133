"""Errors: the requests that failed lately, grouped by what they have in common."""

from __future__ import annotations

import sqlalchemy as sa
from aiohttp import web

from carpool_worker.console import filters
from carpool_worker.console.command_lines import command_line
from carpool_worker.console.page_calls import PageCall
from carpool_worker.views import errors

FILTERS = {"since": filters.since, "client": filters.text}

A_DAY = "24h"

KEPT_SECONDS = 10.0
"""How long what was read serves others who look."""


async def show(page: PageCall) -> web.StreamResponse:
    """Answer with the groups, the largest first."""
    given = filters.read(page, FILTERS)
    since, client = given.get("since") or filters.since(A_DAY), given.get("client")
    length = page.query.get("since") or A_DAY

    def ask(on: sa.Connection) -> errors.ErrorGroups:
        return errors.grouped(on, since, client)

    found = await page.cached(page.path, KEPT_SECONDS, lambda: page.console.read(ask))
    line = command_line("requests", state="discarded", since=length, client=client)
    return page.draw("errors.html", found=found, length=length, line=line, acts=page.can("act"))
