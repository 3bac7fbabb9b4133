"""Styles and scripts, under URLs that change with what they contain, so that browsers keep them for good."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

FOLDER = Path(__file__).parent / "static"
FOREVER = "public, max-age=31536000, immutable"


@cache
def url(name: str) -> str:
    """Return the URL of a file in static/."""
    return f"/static/{name}?v={digest((FOLDER / name).read_bytes())}"


def digest(content: bytes) -> str:
    """Return what changes with a file's contents."""
    return hashlib.sha256(content).hexdigest()[:12]


def add(app: web.Application) -> None:
    """Serve the folder."""
    app.router.add_static("/static", FOLDER)
    app.middlewares.append(_keep)


@web.middleware
async def _keep(request: web.Request, handler: Handler) -> web.StreamResponse:
    response = await handler(request)
    if request.path.startswith("/static/") and response.status in (200, 304):
        response.headers["Cache-Control"] = FOREVER if "v" in request.query else "no-cache"
    return response
