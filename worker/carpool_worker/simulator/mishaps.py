"""What an armed fault does to a call."""

import asyncio
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from carpool_worker.simulator import relays
from carpool_worker.simulator.endpoints import REPEATED, RESULTS_PATH, json_response
from carpool_worker.simulator.errors import SPEND_LIMIT_REACHED, ApiError
from carpool_worker.simulator.faults import Fault

SLOW_PIECES = 20
MESSAGES = {
    401: "invalid x-api-key",
    402: "Your credit balance is too low to access the Anthropic API.",
    403: "Your API key does not have permission to use the specified resource.",
    404: "Message Batch ID not found.",
    413: "Request exceeds the maximum size",
    429: "This request would exceed your organization's rate limit.",
    500: "Internal server error",
    504: "Request timed out.",
    529: "Overloaded",
}
SPEND_CAP = "You have reached your specified API usage limits."


async def suffer(fault: Fault, request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer the call as the fault prescribes, with or without performing it; may raise ApiError."""
    if fault.kind == "dropped":
        return _cut(request)
    if fault.kind == "error":
        raise _error(fault)
    if fault.kind == "cut_text":
        return relays.cut_text(fault)
    if fault.kind == "stub":
        return json_response({"data": [], "has_more": False, "first_id": None, "last_id": None})
    if fault.kind == "repeated":
        request[REPEATED] = True
    response = await handler(request)
    match fault.kind:
        case "lost":
            return _cut(request)
        case "error_after":
            raise _error(fault)
        case "repeated":
            return response
        case "stalled":
            await asyncio.sleep(fault.seconds)
            return response
        case "slow":
            return await _send_slowly(request, fault.seconds)
        case "truncated":
            return await _send_half(request, response)
        case "page":
            return relays.page(fault)
        case "bare":
            return relays.bare(response)
        case "rewritten":
            return await relays.rewritten(fault, request[RESULTS_PATH])


def _error(fault: Fault) -> ApiError:
    usual = MESSAGES.get(fault.status, "The request was refused by an armed fault.")
    if fault.error_code == SPEND_LIMIT_REACHED:
        usual = SPEND_CAP
    asked = {} if fault.retry_after is None else {"retry-after": f"{fault.retry_after:g}"}
    details = {"error_code": fault.error_code} if fault.error_code else None
    return ApiError(fault.status, fault.message or usual, headers=asked | fault.headers, details=details)


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _send_slowly(request: web.Request, seconds: float) -> web.StreamResponse:
    body = await asyncio.to_thread(Path(request[RESULTS_PATH]).read_bytes)
    response = await _begin(request)
    size = len(body) // SLOW_PIECES + 1
    for start in range(0, len(body), size):
        await asyncio.sleep(seconds / SLOW_PIECES)
        await response.write(body[start : start + size])
    await response.write_eof()
    return response


async def _send_half(request: web.Request, whole: web.StreamResponse) -> web.StreamResponse:
    """Send about half of the answer, up to the middle of a line, then cut the connection."""
    if isinstance(whole, web.Response):
        body = bytes(whole.body or b"")  # type: ignore[arg-type]
    else:
        body = await asyncio.to_thread(Path(request[RESULTS_PATH]).read_bytes)
    line_start = body.rfind(b"\n", 0, len(body) // 2) + 1
    line_end = body.find(b"\n", line_start) % (len(body) + 1)
    response = await _begin(request, whole.content_type)
    await response.write(body[: (line_start + line_end) // 2])
    await asyncio.sleep(0.05)  # an aborted transport drops what it has not sent yet
    _cut(request)
    return response


async def _begin(request: web.Request, content_type: str = "application/x-jsonl") -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": content_type})
    response.enable_chunked_encoding()
    await response.prepare(request)
    return response
