"""Batches: the list with the time line of the day, and the page of one."""

from __future__ import annotations

import sqlalchemy as sa
from aiohttp import web

from carpool_worker.console import filters
from carpool_worker.console.command_lines import command_line
from carpool_worker.console.page_calls import PageCall
from carpool_worker.console.pages import own_batches
from carpool_worker.console.paging import Paging
from carpool_worker.states import BatchState
from carpool_worker.views import batch_days, batches
from carpool_worker.views.batches import BatchFilter

FILTERS = {
    "state": filters.one_of(BatchState),
    "model": filters.text,
    "since": filters.since,
    "before": filters.text,
    "after": filters.text,
}

LIMIT = 50

KEPT_SECONDS = 3.0
"""How long what was read serves others who look."""


async def show(page: PageCall) -> web.StreamResponse:
    """Answer with a page of the batches, newest first; for a tenant, of those that it made itself."""
    if page.user.client is not None:
        return await own_batches.show(page, page.user.client)
    given = filters.read(page, FILTERS)
    paging = Paging(page, LIMIT)
    wanted = BatchFilter(
        states=[given["state"]] if "state" in given else [],
        model=given.get("model"),
        since=given.get("since"),
    )
    settings = page.console.settings

    def ask(on: sa.Connection) -> tuple[list[batches.BatchView], batch_days.Day | None]:
        found = batches.page(on, settings, wanted, LIMIT + 1, **paging.ends)
        return found, None if paging.is_inner else batch_days.day(on)

    found, day = await page.cached(page.path, KEPT_SECONDS, lambda: page.console.read(ask))
    shown = paging.shown(found)
    line = command_line(
        "batches", state=given.get("state"), model=wanted.model, since=page.query.get("since")
    )
    return page.draw("batches.html", rows=shown, day=day, paging=paging, line=line, states=list(BatchState))


async def show_one(page: PageCall) -> web.StreamResponse:
    """Answer with the page of a batch, named by its id or Anthropic's, or by how either begins; or a tenant's own."""
    named, settings = page.request.match_info["id"], page.console.settings
    if page.user.client is not None:
        return await own_batches.show_one(page, page.user.client, named)

    def ask(on: sa.Connection) -> tuple[batches.BatchDetails, batch_days.Breakdown]:
        found = batches.find(on, settings, named)
        return found, batch_days.breakdown(on, found.id)

    found, parts = await page.cached(page.path, KEPT_SECONDS, lambda: page.console.read(ask))
    return page.draw("batch.html", batch=found, parts=parts, line=command_line("batches", "show", found.id))
