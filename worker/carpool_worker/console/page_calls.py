"""One page as it is being answered: who asks for what, how it is drawn, and how what it does is recorded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

from aiohttp import web

from carpool_worker.console.refusals import NotAllowed
from carpool_worker.console.sessions import Session
from carpool_worker.console.simulators import simulator_url
from carpool_worker.console.state import Console
from carpool_worker.console.users import Role, User
from carpool_worker.operations import audit
from carpool_worker.views.encoding import plain

T = TypeVar("T")


class Tab(NamedTuple):
    """An entry of the navigation; `tenants` see it, too; with `simulator`, it is there only beside one."""

    path: str
    title: str
    tenants: bool = False
    simulator: bool = False


class PageCall:
    """A request for a page, of somebody who has signed on."""

    def __init__(
        self,
        request: web.Request,
        console: Console,
        tab: Tab,
        tabs: Sequence[Tab],
        session: Session,
        user: User,
    ) -> None:
        self.request = request
        self.console = console
        self.tab = tab
        seen = [one for one in tabs if one.tenants or user.client is None]
        self.tabs = [one for one in seen if not one.simulator or simulator_url()]
        self.user = user
        self._session = session

    @property
    def query(self) -> dict[str, str]:
        """The filters: what is in the URL, so that it can be shared."""
        return dict(self.request.query)

    @property
    def token(self) -> str:
        """What each form must contain; macros.html puts it there."""
        return self.console.sessions.token(self._session)

    @property
    def path(self) -> str:
        """This page's URL, with its filters."""
        return self.request.path_qs

    def can(self, role: str) -> bool:
        """Return whether the user may do this: "look", "act", "reveal" or "admin"."""
        return self.user.can(Role(role))

    def link(self, **changes: object) -> str:
        """Return this page's URL with other filters; None takes one out."""
        chosen: dict[str, object] = {**self.query, **changes}
        found = urlencode({name: value for name, value in chosen.items() if value not in (None, "")})
        return f"{self.request.path}?{found}" if found else self.request.path

    async def form(self) -> dict[str, str]:
        """Return the fields of the form that was sent; files are left out."""
        return {name: value for name, value in (await self.request.post()).items() if isinstance(value, str)}

    async def still_signed_on(self) -> bool:
        """Return whether the session still opens pages: its key may have been revoked."""
        return await self.console.sessions.user(self._session) is not None

    async def cached(self, key: Hashable, seconds: float, ask: Callable[[], Awaitable[T]]) -> T:
        """Return what `ask` returned at most so long ago, for whoever looked; tenants have readings of their own."""
        return await self.console.cached.get((self.user.client, key), seconds, ask)

    async def soon(self, key: Hashable, seconds: float, ask: Callable[[], Awaitable[T]]) -> T:
        """Return what is known, however old, and have it read anew meanwhile; only the first one who asks waits."""
        return await self.console.cached.soon((self.user.client, key), seconds, ask)

    async def at_once(self, key: Hashable, seconds: float, ask: Callable[[], Awaitable[T]]) -> T | None:
        """Return the same, but None while it is read for the first time: nobody waits for more than a moment."""
        return await self.console.cached.at_once((self.user.client, key), seconds, ask)

    def has(self, path: str) -> bool:
        """Return whether the user has this page in the navigation."""
        return any(tab.path == path for tab in self.tabs)

    async def act(
        self,
        action: str,
        what: str,
        do: Callable[[], T],
        details: Mapping[str, Any] | None = None,
        role: Role = Role.ACT,
    ) -> T:
        """Do something and write it into the audit log: who, when, what, and whether it was done.

        `do` is called in a thread; `details` are values that JSON has, never contents. What pages show is read anew
        afterwards; what takes long (`soon`), meanwhile.

        Raises:
            NotAllowed: the user may not; nothing is done, and nothing is written.
            WorkerError: what `do` raises; the audit log has its sentence.
        """
        if not self.user.can(role):
            raise NotAllowed(f"{self.user.name} has no permission to {role.value}: nothing was done.")
        entry = audit.Act(self.user.name, action, what, plain(dict(details or {})), self.user.client)
        try:
            return await self.console.run(lambda: audit.recorded(self.console.engine, entry, do))
        finally:
            self.console.cached.forget()

    async def came_from(self, path: str) -> str:
        """Return where a form leads back to: this page, or the overview where the form was sent from there."""
        return "/" if (await self.form()).get("from") == "overview" else path

    def see(self, path: str, message: str = "") -> web.Response:
        """Return the way to another page, which shows the message: the answer to a form."""
        response = web.Response(status=303, headers={"Location": path})
        if message:
            self.console.sessions.leave_message(response, message)
        return response

    def draw(self, template: str, *, http_status: int = 200, **values: Any) -> web.Response:
        """Return the page, drawn by a template that extends base.html."""
        message = self.console.sessions.message(self.request)
        text = self.console.templates.get_template(template).render(page=self, message=message, **values)
        response = web.Response(text=text, content_type="text/html", status=http_status)
        if message:
            self.console.sessions.drop_message(response)
        return response


Answering = Callable[[PageCall], Awaitable[web.StreamResponse]]
