"""What keeps other people's pages out: headers, the Host of each request, and the tokens of forms."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from carpool_worker.console.refusals import NotAllowed, PageRefused
from carpool_worker.console.sessions import Session
from carpool_worker.console.state import CONSOLE

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",  # the lengths of bars
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Of every answer: nothing is loaded from another host, nothing is shown inside somebody else's page."""

TOKEN = "token"  # noqa: S105 - the name of a field
"""The field of each form that only our own pages know."""


@web.middleware
async def protect(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give every answer its headers; pages are kept by nobody on their way."""
    response = await handler(request)
    if not response.prepared:
        add_headers(response)
    return response


def add_headers(response: web.StreamResponse) -> None:
    """Add what every answer has."""
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")


@web.middleware
async def check_host(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what names this machine's console by another name: a page whose own name was turned to 127.0.0.1."""
    listening = request.app[CONSOLE].listening
    if listening.is_loopback and not listening.behind_proxy and not _is_loopback(request.host):
        raise PageRefused(
            421, "This console listens on this machine alone: open it as localhost or 127.0.0.1."
        )
    return await handler(request)


async def check_form(request: web.Request, session: Session) -> None:
    """Raise NotAllowed unless a form was sent from a page of this session's."""
    check_origin(request)
    token = (await posted(request)).get(TOKEN, "")
    if not (isinstance(token, str) and request.app[CONSOLE].sessions.is_token(session, token)):
        raise NotAllowed("The form is not of this session: open the page again, and send it from there.")


def check_url(request: web.Request) -> None:
    """Raise PageRefused for a URL with a character that no name has, and that PostgreSQL takes in no text."""
    _check_text(request.path)
    _check_text(request.query_string)


async def posted(request: web.Request) -> Mapping[str, Any]:
    """Return the fields of the form that was sent; from then on `request.post()` returns them, too.

    Raises:
        PageRefused: 400, it can't be read. Browsers send no such form.
    """
    try:
        form = await request.post()
    except (ValueError, LookupError) as error:  # no UTF-8, broken parts, an unknown charset
        raise PageRefused(400, "The form can't be read.") from error
    for value in form.values():
        if isinstance(value, str):
            _check_text(value)
    return form


def check_origin(request: web.Request) -> None:
    """Raise NotAllowed if a browser says that another origin's page sends this."""
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if site is not None:
        ours = site in ("same-origin", "none")
    else:
        ours = origin is None or origin.partition("://")[2] == request.host
    if not ours:
        raise NotAllowed("The form was sent from another site's page.")


def address(request: web.Request) -> str:
    """Return whence a request comes; behind a proxy, the address that this one has added last."""
    forwarded = request.headers.get("X-Forwarded-For", "")
    if request.app[CONSOLE].listening.behind_proxy and forwarded:
        return forwarded.rpartition(",")[2].strip()
    return request.remote or ""


def _check_text(text: str) -> None:
    if "\0" in text:
        raise PageRefused(400, "What was sent contains the character NUL, which no name has.")


def _is_loopback(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
