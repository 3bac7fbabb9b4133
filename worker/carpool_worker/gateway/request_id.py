"""The id of each call, which its answer names and the log."""

from __future__ import annotations

import secrets

from aiohttp import web

REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)


def new_request_id() -> str:
    """Return an id that looks like those of Anthropic's API."""
    return f"req_01{secrets.token_hex(11)}"
