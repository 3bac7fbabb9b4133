"""One page as it is being answered: who asks for what, and how it is drawn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from urllib.parse import urlencode

from aiohttp import web

from carpool_worker.console.state import Console


class Tab(NamedTuple):
    """An entry of the navigation."""

    path: str
    title: str


class PageCall:
    """A request for a page."""

    def __init__(self, request: web.Request, console: Console, tab: Tab, tabs: tuple[Tab, ...]) -> None:
        self.request = request
        self.console = console
        self.tab = tab
        self.tabs = tabs

    @property
    def query(self) -> dict[str, str]:
        """The filters: what is in the URL, so that it can be shared."""
        return dict(self.request.query)

    def link(self, **changes: object) -> str:
        """Return this page's URL with other filters; None takes one out."""
        chosen: dict[str, object] = {**self.query, **changes}
        found = urlencode({name: value for name, value in chosen.items() if value not in (None, "")})
        return f"{self.request.path}?{found}" if found else self.request.path

    def draw(self, template: str, **values: Any) -> web.Response:
        """Return the page, drawn by a template that extends base.html."""
        text = self.console.templates.get_template(template).render(page=self, **values)
        return web.Response(text=text, content_type="text/html")


Answering = Callable[[PageCall], Awaitable[web.StreamResponse]]
