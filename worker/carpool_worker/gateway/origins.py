"""Calls from browsers (CORS): answered for origins that are listed, and for no others."""

from __future__ import annotations

from collections.abc import Collection

from aiohttp import web

PREFLIGHT_SECONDS = "600"
EXPOSED = "request-id, retry-after, x-carpool-request-id, x-carpool-cost, x-carpool-saved"


def origin_headers(request: web.Request, origins: Collection[str]) -> dict[str, str]:
    """Return the headers that let the page which makes this call read its answer; none if it may not."""
    origin = request.headers.get("origin")
    if origin is None or origin not in origins:
        return {}
    return {"access-control-allow-origin": origin, "access-control-expose-headers": EXPOSED, "vary": "Origin"}


def preflight(request: web.Request, origins: Collection[str]) -> web.Response | None:
    """Return the answer to a browser that asks whether a page may make a call; None if this is no such question."""
    if request.method != "OPTIONS":
        return None
    method = request.headers.get("access-control-request-method")
    if method is None or not (allowed := origin_headers(request, origins)):
        return None
    asked = request.headers.get("access-control-request-headers", "")
    granted = {
        "access-control-allow-methods": method,
        "access-control-allow-headers": asked,
        "access-control-max-age": PREFLIGHT_SECONDS,
    }
    return web.Response(status=204, headers=allowed | granted)
