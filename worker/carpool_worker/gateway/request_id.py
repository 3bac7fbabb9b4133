"""The id of each call, which its answer names and the log, and the other headers that every answer has."""

from __future__ import annotations

import secrets

from aiohttp import web

SERVER = "carpool"
"""What `Server` says; else aiohttp names itself and Python, with their versions."""

REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
FOR_ORIGIN: web.RequestKey[dict[str, str]] = web.RequestKey("for_origin", dict)
"""The headers that let the page which makes a call read its answer."""


def common_headers(request: web.BaseRequest) -> dict[str, str]:
    """Return the headers of whatever answers this call."""
    found = {"request-id": request[REQUEST_ID], "server": SERVER}
    for_origin: dict[str, str] = request.get(FOR_ORIGIN, {})
    return found | for_origin


async def begin_answer(request: web.Request, response: web.StreamResponse) -> None:
    """Send an answer's headers; raises ConnectionError if the caller has gone."""
    response.headers.update(common_headers(request))
    await response.prepare(request)


def new_request_id() -> str:
    """Return an id that looks like those of Anthropic's API."""
    return f"req_01{secrets.token_hex(11)}"
