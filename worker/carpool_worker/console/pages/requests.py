"""Requests: the list, what a search finds, and the page of one."""

from __future__ import annotations

from dataclasses import replace

import sqlalchemy as sa
from aiohttp import web

from carpool_worker.console import filters
from carpool_worker.console.command_lines import command_line
from carpool_worker.console.page_calls import PageCall
from carpool_worker.console.paging import PLACES, Paging
from carpool_worker.console.retry_prices import RetryPrice, priced
from carpool_worker.operations import retry
from carpool_worker.settings import Settings
from carpool_worker.states import RequestState
from carpool_worker.views import deliveries, lookup, request_looks, requests
from carpool_worker.views.deliveries import DeliveryDetails
from carpool_worker.views.request_looks import RequestLook
from carpool_worker.views.requests import RequestDetails, RequestFilter

FILTERS = {
    "q": filters.text,
    "state": filters.one_of(RequestState),
    "client": filters.text,
    "model": filters.text,
    "batch": filters.text,
    "tag": filters.text,
    "error": filters.text,
    "since": filters.since,
    "before": filters.text,
    "after": filters.text,
    "down_from": filters.whole_id,
    "up_from": filters.whole_id,
}

OF_TENANTS = {name: read for name, read in FILTERS.items() if name != "batch"}
"""A batch at Anthropic is no tenant's business, who shares it."""

LIMIT = 50

KEPT_SECONDS = 3.0
"""How long what was read serves others who look."""

OF_ITS_BATCH = "its batch: "
"""How what happened to the batch of a request begins in its story: no tenant's business."""


async def show(page: PageCall) -> web.StreamResponse:
    """Answer with a page of the requests, newest first; or with the one that an id or an idempotency key names."""
    given = filters.of_tenant(page, filters.read(page, FILTERS if page.user.client is None else OF_TENANTS))
    if "q" in given:
        return await _search(page, given["q"], given.get("client"))
    paging = Paging(page, LIMIT)
    chosen = {name: value for name, value in given.items() if name not in PLACES}
    wanted, settings = RequestFilter(**chosen), page.console.settings

    def ask(on: sa.Connection) -> RequestLook:
        lookup.check_own(on, page.user.client, *paging.ends.values())
        return request_looks.look(on, settings, wanted, LIMIT + 1, **paging.looks)

    look = await page.cached(page.path, KEPT_SECONDS, lambda: page.console.read(ask))
    shown = paging.shown(look.rows)
    paging.look_on(look.further)
    asked = {name: page.query[name] for name in chosen if name in page.query}
    return page.draw(
        "requests.html",
        rows=shown,
        paging=paging,
        line=command_line("requests", **asked),
        states=list(RequestState),
        found=None,
        looked_to=look.further_at,
    )


async def _search(page: PageCall, said: str, client: str | None) -> web.StreamResponse:
    found = await page.console.read(lambda on: lookup.requests_called(on, said, client))
    if len(found) == 1:
        raise web.HTTPFound(f"/requests/{next(iter(found))}")
    return page.draw(
        "requests.html",
        rows=[],
        paging=None,
        line=command_line("requests", client=client),
        states=list(RequestState),
        found=found,
    )


async def show_one(page: PageCall) -> web.StreamResponse:
    """Answer with the page of one request, named by its id or the beginning of it; without its contents.

    A tenant names its own by their whole ids.
    """
    named, settings = page.request.match_info["id"], page.console.settings

    def ask(on: sa.Connection) -> tuple[RequestDetails, DeliveryDetails | None, RetryPrice | None]:
        lookup.check_own(on, page.user.client, named)
        found = requests.find(on, settings, named)
        delivery = deliveries.find(on, found.id) if found.delivery else None
        return found, delivery, _price(on, settings, found)

    found, delivery, price = await page.cached(page.path, KEPT_SECONDS, lambda: page.console.read(ask))
    told = [one for one in found.story if page.user.client is None or not one.words.startswith(OF_ITS_BATCH)]
    line = command_line("requests", "show", found.id)
    return page.draw("request.html", one=found, story=told, delivery=delivery, price=price, line=line)


def _price(on: sa.Connection, settings: Settings, found: RequestDetails) -> RetryPrice | None:
    """Return what a retry of the request costs; None: it is not discarded."""
    if found.state is not RequestState.DISCARDED:
        return None
    price = priced(retry.estimate(on, retry.choose(on, settings, [found.id]), retry.chances(even_paid=False)))
    if price.risky:
        every = retry.chances(even_paid=True)
        dear = priced(retry.estimate(on, retry.choose(on, settings, [found.id]), every), even_paid=True)
        return replace(price, price=dear.price)
    return price
