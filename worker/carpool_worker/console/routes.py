"""Every page of the console, in one table; the order is the navigation's."""

from __future__ import annotations

from typing import NamedTuple

from carpool_worker.console.page_calls import Answering, Tab
from carpool_worker.console.pages import overview


class PageRoute(NamedTuple):
    """A page, or something that a page asks for; it belongs to a tab of the navigation."""

    method: str
    path: str
    answer: Answering
    tab: Tab


OVERVIEW = Tab("/", "Overview")

ROUTES: tuple[PageRoute, ...] = (PageRoute("GET", "/", overview.show, OVERVIEW),)

TABS: tuple[Tab, ...] = tuple(dict.fromkeys(route.tab for route in ROUTES))
