"""Every page of the console, in one table; the order is the navigation's."""

from __future__ import annotations

from typing import NamedTuple

from carpool_worker.console import live
from carpool_worker.console.page_calls import Answering, Tab
from carpool_worker.console.pages import overview
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

ROUTES: tuple[PageRoute, ...] = (PageRoute("GET", "/", overview.show, OVERVIEW),)

LIVE = PageRoute("GET", "/live", live.follow, Tab("/live", "Live", tenants=True))
"""What tells pages that something has changed; it is no page itself."""

TABS: tuple[Tab, ...] = tuple(dict.fromkeys(route.tab for route in ROUTES))
