"""Batches as a tenant sees them: those that it made at the gateway, never those at Anthropic that all share."""

from __future__ import annotations

from aiohttp import web

from carpool_worker.console import filters
from carpool_worker.console.page_calls import PageCall
from carpool_worker.console.paging import Paging
from carpool_worker.views import client_batches

FILTERS = {"before": filters.text, "after": filters.text}

LIMIT = 50

KEPT_SECONDS = 3.0
"""How long what was read serves others who look."""


async def show(page: PageCall, client: str) -> web.StreamResponse:
    """Answer with a page of the client's batches, newest first."""
    filters.read(page, FILTERS)
    paging = Paging(page, LIMIT)
    found = await page.cached(
        page.path,
        KEPT_SECONDS,
        lambda: page.console.read(lambda on: client_batches.page(on, client, LIMIT + 1, **paging.ends)),
    )
    return page.draw("own_batches.html", rows=paging.shown(found), paging=paging)


async def show_one(page: PageCall, client: str, named: str) -> web.StreamResponse:
    """Answer with the page of one of the client's batches, named by its whole id."""
    found = await page.cached(
        page.path,
        KEPT_SECONDS,
        lambda: page.console.read(lambda on: client_batches.find(on, client, named)),
    )
    return page.draw("own_batch.html", batch=found)
