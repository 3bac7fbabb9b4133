"""Bodies: read with a limit on their unpacked size, and at a lowest speed."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator

import msgspec
from aiohttp import web

from carpool.exceptions import InvalidRequest
from carpool_worker.gateway.errors import GatewayError

MAX_MESSAGE_BYTES = 32_000_000
"""Of a POST /v1/messages, the API's own limit."""

UPLOAD_SECONDS = 10.0
UPLOAD_BYTES = 10_000
"""In so many seconds at least so many bytes must arrive: a slow reader of prompts keeps its connection for long enough,
and whoever sends a byte a second does not."""


async def read_body(request: web.Request, limit: int = MAX_MESSAGE_BYTES) -> bytes:
    """Return the body, unpacked.

    Raises:
        GatewayError: 413 if it has more than `limit` bytes, 408 if it comes too slowly, 400 if it can't be unpacked.
    """
    if request.content.is_eof():  # it came with the headers, as a short one does
        return _read_all(request, limit)
    body = bytearray()
    async for chunk in chunks(request, limit):
        body += chunk
    return bytes(body)


async def chunks(request: web.Request, limit: int) -> AsyncIterator[bytes]:
    """Yield the body in parts as they arrive, unpacked; raises what `read_body` raises."""
    if (request.content_length or 0) > limit:
        raise too_large(limit)
    loop, total = asyncio.get_running_loop(), 0
    due, least = loop.time() + UPLOAD_SECONDS, UPLOAD_BYTES
    while True:
        try:
            async with asyncio.timeout_at(due):
                chunk = await request.content.readany()
        except TimeoutError:
            raise GatewayError(408, "The request body arrived too slowly.", headers=CLOSING) from None
        except (web.RequestPayloadError, zlib.error) as error:
            raise _unreadable(error) from None
        if not chunk:
            return
        total += len(chunk)
        if total > limit:
            raise too_large(limit)
        if total >= least:
            due, least = loop.time() + UPLOAD_SECONDS, total + UPLOAD_BYTES
        yield chunk


def _read_all(request: web.Request, limit: int) -> bytes:
    if max(request.content_length or 0, request.content.total_bytes) > limit:
        raise too_large(limit)
    try:
        return request.content.read_nowait()
    except (web.RequestPayloadError, zlib.error) as error:
        raise _unreadable(error) from None


def _unreadable(error: Exception) -> GatewayError:
    return GatewayError(400, f"The request body can't be read: {error}", headers=CLOSING)


def too_large(limit: int) -> GatewayError:
    """Return the 413 of a body that has more bytes than it may have."""
    message = (
        f"Request exceeds the maximum allowed number of bytes. The maximum request size is {limit} bytes."
    )
    return GatewayError(413, message, headers=CLOSING)


def read_object(body: bytes) -> dict[str, object]:
    """Return a body as JSON, which must be an object; raises InvalidRequest, which answers with a 400."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest("body", f"The request body is not valid JSON: {error}") from None
    except RecursionError:
        raise InvalidRequest("body", "is nested too deeply") from None
    if not isinstance(found, dict):
        raise InvalidRequest("body", "must be a JSON object")
    return found


CLOSING = {"connection": "close"}
"""The rest of a body that is refused is not waited for."""
