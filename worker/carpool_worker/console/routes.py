"""Every page of the console, in one table; the order is the navigation's."""

from __future__ import annotations

from typing import NamedTuple

from carpool_worker.console import live
from carpool_worker.console.page_calls import Answering, Tab
from carpool_worker.console.pages import batches, deliveries, errors, overview, requests
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

ROUTES: tuple[PageRoute, ...] = (
    PageRoute("GET", "/", overview.show, OVERVIEW),
    PageRoute("GET", "/batches", batches.show, BATCHES),
    PageRoute("GET", "/batches/{id}", batches.show_one, BATCHES),
    PageRoute("GET", "/requests", requests.show, REQUESTS),
    PageRoute("GET", "/requests/{id}", requests.show_one, REQUESTS),
    PageRoute("GET", "/errors", errors.show, ERRORS),
    PageRoute("GET", "/deliveries", deliveries.show, DELIVERIES),
)

LIVE = PageRoute("GET", "/live", live.follow, Tab("/live", "Live", tenants=True))
"""What tells pages that something has changed; it is no page itself."""

TABS: tuple[Tab, ...] = tuple(dict.fromkeys(route.tab for route in ROUTES))
