"""What proxies and relays between Carpool and the API make of its answers."""

import asyncio
import json
from pathlib import Path

from aiohttp import web

from carpool_worker.simulator.errors import ERROR_TYPES
from carpool_worker.simulator.faults import Fault

BOM = b"\xef\xbb\xbf"
CONTRADICTION = {
    "type": "errored",
    "error": {"type": "error", "error": {"type": "api_error", "message": "no"}},
}
"""A result that stands before the true one."""


def page(fault: Fault) -> web.Response:
    """Answer with a page of HTML, as a proxy that asks for a login does."""
    lines = [
        "<html>",
        *("<p>Please sign in to use the network.</p>" for _ in range(fault.lines - 2)),
        "</html>",
    ]
    return web.Response(text="\n".join(lines) + "\n", content_type="text/html")


def cut_text(fault: Fault) -> web.Response:
    """Refuse with a message that was cut in the middle of a character, as JSON can say it and UTF-8 can't."""
    kind = ERROR_TYPES.get(fault.status, "api_error")
    text = (fault.message or "a value is wrong") + ": "
    error = f'{{"type": "{kind}", "message": {json.dumps(text)[:-1]}\\u0000 \\ud83d"}}'
    body = f'{{"type": "error", "error": {error}, "request_id": "req_cut"}}'
    return web.Response(status=fault.status, body=body.encode(), content_type="application/json")


def bare(whole: web.StreamResponse) -> web.Response:
    """Answer a batch as a relay does that keeps little of it."""
    batch = json.loads(bytes(whole.body)) if isinstance(whole, web.Response) else {}  # type: ignore[arg-type]
    kept = {name: batch[name] if name in ("id", "processing_status") else None for name in batch}
    del kept["created_at"]
    return web.json_response(kept)


async def rewritten(fault: Fault, path: str) -> web.Response:
    """Answer with the results in another form."""
    lines = (await asyncio.to_thread(Path(path).read_bytes)).splitlines()
    return web.Response(body=_rewrite(fault, lines), content_type="application/json")


def _rewrite(fault: Fault, lines: list[bytes]) -> bytes:
    match fault.form:
        case "array":
            return b"[" + b",".join(lines) + b"]"
        case "pretty":
            return b"\n".join(json.dumps(json.loads(line), indent=2).encode() for line in lines)
        case "bom":
            return BOM + b"\n".join(lines)
        case "blank_lines":
            return b"\n \r\n".join([b"", *lines, b"", b""])
        case "twice":
            before = [
                json.dumps({"custom_id": json.loads(line)["custom_id"], "result": CONTRADICTION}).encode()
                for line in lines
            ]
            return b"\n".join([*before, *lines, *before])
        case "cut_cleanly":
            return b"\n".join(lines[:-1]) + b"\n"
