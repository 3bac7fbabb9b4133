"""Signing on with the password or a key, and signing off."""

from __future__ import annotations

from urllib.parse import urlencode

from aiohttp import web

from carpool_worker.console.protection import address, check_form, check_origin, posted
from carpool_worker.console.refusals import NotHere, PageRefused
from carpool_worker.console.sessions import Session
from carpool_worker.console.state import CONSOLE

PATH = "/sign-on"


async def _show(request: web.Request) -> web.Response:
    console = request.app[CONSOLE]
    session = console.sessions.read(request)
    if session and await console.sessions.user(session):
        return _seen(request.query.get("next", "/"))
    return _drawn(request, request.query.get("next", "/"))


async def _begin(request: web.Request) -> web.Response:
    check_origin(request)
    form = await posted(request)
    given, name, after = (str(form.get(field, "")) for field in ("secret", "name", "next"))
    session = await _tried(request, given.strip(), name)
    if session is None:
        return _drawn(request, after, "That is neither the password nor a key that opens this console.")
    return _entered(request, session, after)


async def _enter(request: web.Request) -> web.Response:
    """Sign on by a link, which whoever has started this console was shown; only on the same machine."""
    listening = request.app[CONSOLE].listening
    if not listening.is_loopback or listening.behind_proxy:
        raise NotHere
    session = await _tried(request, request.query.get("with", ""), "")
    return _entered(request, session, "/") if session else to_sign_on(request)


async def _end(request: web.Request) -> web.Response:
    console = request.app[CONSOLE]
    session = console.sessions.read(request)
    if session:
        await check_form(request, session)
    response = _seen(PATH)
    console.sessions.end(response)
    return response


ROUTES = (
    web.get(PATH, _show),
    web.post(PATH, _begin),
    web.get("/enter", _enter),
    web.post("/sign-off", _end),
)


def to_sign_on(request: web.Request) -> web.Response:
    """Return the way to the form, and from there back to the page that was asked for."""
    wanted = request.path_qs if request.method == "GET" and request.path not in ("/enter", "/live") else "/"
    return _seen(f"{PATH}?{urlencode({'next': wanted})}" if wanted != "/" else PATH)


def link(url: str, password: str) -> str:
    """Return the link that signs on by itself."""
    return f"{url}/enter?{urlencode({'with': password})}"


async def _tried(request: web.Request, given: str, name: str) -> Session | None:
    console, tries = request.app[CONSOLE], request.app[CONSOLE].wrong_passwords
    if tries.too_many(address(request)):
        raise PageRefused(429, "Too many wrong passwords from this address: try again in a minute.")
    session = await console.sessions.begin(given, name)
    if session is None:
        tries.count(address(request))
    return session


def _entered(request: web.Request, session: Session, after: str) -> web.Response:
    response = _seen(after)
    request.app[CONSOLE].sessions.write(response, session)
    return response


def _seen(path: str) -> web.Response:
    """Go to a page of our own, never to another host."""
    local = path.startswith("/") and not path.startswith(("//", "/\\"))
    return web.Response(status=303, headers={"Location": path if local and path.isprintable() else "/"})


def _drawn(request: web.Request, after: str, wrong: str = "") -> web.Response:
    console = request.app[CONSOLE]
    text = console.templates.get_template("sign_on.html").render(
        after=after, wrong=wrong, has_password=bool(console.sessions.password)
    )
    return web.Response(text=text, content_type="text/html", status=403 if wrong else 200)
