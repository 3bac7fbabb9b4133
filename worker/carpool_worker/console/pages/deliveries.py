"""Deliveries: the receivers of answers, the deliveries to them, and the latest tries."""

from __future__ import annotations

import sqlalchemy as sa
from aiohttp import web

from carpool_worker.console import filters
from carpool_worker.console.command_lines import command_line
from carpool_worker.console.page_calls import PageCall
from carpool_worker.console.paging import Paging
from carpool_worker.states import DeliveryState
from carpool_worker.views import deliveries, endpoints, lookup
from carpool_worker.views.deliveries import DeliveryFilter, DeliveryView
from carpool_worker.views.endpoints import LateTryView, ReceiverView

FILTERS = {
    "state": filters.one_of(DeliveryState),
    "client": filters.text,
    "target": filters.text,
    "since": filters.since,
    "before": filters.text,
    "after": filters.text,
}

LIMIT = 50
TRIES = 20

KEPT_SECONDS = 5.0
"""How long what was read serves others who look."""


async def show(page: PageCall) -> web.StreamResponse:
    """Answer with the receivers, the latest tries, and a page of the deliveries, newest first."""
    given = filters.of_tenant(page, filters.read(page, FILTERS))
    paging = Paging(page, LIMIT)
    chosen = {name: given.get(name) for name in ("state", "client", "target")}
    client = page.user.client
    wanted = DeliveryFilter(**chosen, changed_since=given.get("since"))

    def ask(on: sa.Connection) -> tuple[list[DeliveryView], list[ReceiverView], list[LateTryView]]:
        lookup.check_own(on, client, *paging.ends.values())
        found = deliveries.page(on, wanted, LIMIT + 1, **paging.ends)
        if page.query:
            return found, [], []
        return found, endpoints.receivers(on, client), endpoints.latest_tries(on, TRIES, None, client)

    found, receivers, tries = await page.cached(page.path, KEPT_SECONDS, lambda: page.console.read(ask))
    return page.draw(
        "deliveries.html",
        rows=paging.shown(found, lambda one: one.request_id),
        receivers=receivers,
        tries=tries,
        paging=paging,
        line=command_line("deliveries", **chosen, since=page.query.get("since")),
        states=list(DeliveryState),
    )
