"""Every page of the console, in one table; the order is the navigation's."""

from __future__ import annotations

from typing import NamedTuple

from carpool_worker.console import live
from carpool_worker.console.page_calls import Answering, Tab
from carpool_worker.console.pages import (
    batches,
    clients,
    deliveries,
    errors,
    health,
    key_acts,
    lane_acts,
    lanes,
    overview,
    requests,
    spend,
    try_it,
)
from carpool_worker.console.users import Role


class PageRoute(NamedTuple):
    """A page, or something that a page asks for or does; it belongs to a tab of the navigation."""

    method: str
    path: str
    answer: Answering
    tab: Tab
    role: Role | None = None  # None: LOOK for a GET, ACT for a POST

    @property
    def needs(self) -> Role:
        """What whoever asks must be allowed to."""
        return self.role or (Role.LOOK if self.method == "GET" else Role.ACT)


OVERVIEW = Tab("/", "Overview")
BATCHES = Tab("/batches", "Batches")
REQUESTS = Tab("/requests", "Requests", tenants=True)
ERRORS = Tab("/errors", "Errors")
DELIVERIES = Tab("/deliveries", "Deliveries", tenants=True)
SPEND = Tab("/spend", "Spend", tenants=True)
CLIENTS = Tab("/clients", "Clients and keys", tenants=True)
LANES = Tab("/lanes", "Lanes and limits")
TRY_IT = Tab("/try", "Try it", simulator=True)
HEALTH = Tab("/health", "Health")

ROUTES: tuple[PageRoute, ...] = (
    PageRoute("GET", "/", overview.show, OVERVIEW),
    PageRoute("POST", "/resume-lane", overview.resume, OVERVIEW),
    PageRoute("GET", "/batches", batches.show, BATCHES),
    PageRoute("GET", "/batches/{id}", batches.show_one, BATCHES),
    PageRoute("GET", "/requests", requests.show, REQUESTS),
    PageRoute("GET", "/requests/{id}", requests.show_one, REQUESTS),
    PageRoute("GET", "/errors", errors.show, ERRORS),
    PageRoute("GET", "/deliveries", deliveries.show, DELIVERIES),
    PageRoute("GET", "/spend", spend.show, SPEND),
    PageRoute("GET", "/spend.csv", spend.download, SPEND),
    PageRoute("GET", "/clients", clients.show_all, CLIENTS),
    PageRoute("GET", "/clients/{client}", clients.show, CLIENTS),
    PageRoute("POST", "/keys/create", key_acts.create, CLIENTS, Role.ADMIN),
    PageRoute("POST", "/keys/rotate", key_acts.rotate, CLIENTS, Role.ADMIN),
    PageRoute("POST", "/keys/revoke", key_acts.revoke, CLIENTS, Role.ADMIN),
    PageRoute("GET", "/lanes", lanes.show, LANES),
    PageRoute("POST", "/lanes/pause", lane_acts.pause, LANES),
    PageRoute("POST", "/lanes/resume", lane_acts.resume, LANES),
    PageRoute("GET", "/try", try_it.show, TRY_IT),
    PageRoute("POST", "/try", try_it.enqueue, TRY_IT),
    PageRoute("POST", "/try/webhook", try_it.webhook, TRY_IT, Role.REVEAL),
    PageRoute("POST", "/try/arm", try_it.arm, TRY_IT),
    PageRoute("POST", "/try/disarm", try_it.disarm, TRY_IT),
    PageRoute("GET", "/health", health.show, HEALTH),
)

LIVE = PageRoute("GET", "/live", live.follow, Tab("/live", "Live", tenants=True))
"""What tells pages that something has changed; it is no page itself."""

TABS: tuple[Tab, ...] = tuple(dict.fromkeys(route.tab for route in ROUTES))
