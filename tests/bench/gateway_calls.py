"""Programs that call a gateway, and a bare aiohttp server that answers the same calls."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import IO
from urllib.parse import urlsplit

import aiohttp
import msgspec
import psutil
import uvloop
from aiohttp import web

MESSAGES = "/v1/messages"
ALL_HELD_SECONDS = 120.0
ANSWERS_WITHIN = 600.0
READ_BYTES = 1 << 20
JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Caller:
    """A program with a gateway's URL and key."""

    url: str
    secret: str

    def post_all(
        self, bodies: Sequence[bytes], connections: int, headers: Mapping[str, str] | None = None
    ) -> None:
        """Post every body to /v1/messages, so many at a time; each must be taken."""
        uvloop.run(self._post_all(iter(bodies), connections, headers or {}))

    async def hold(self, bodies: Sequence[bytes], seconds: float) -> int:
        """Post all bodies at once, and hang up `seconds` after each has had a sign of life; return how many had."""
        async with self._session(len(bodies)) as session:
            begun: asyncio.Queue[None] = asyncio.Queue()
            tasks = [asyncio.create_task(self._begin(session, body, begun)) for body in bodies]
            try:
                async with asyncio.timeout(ALL_HELD_SECONDS):
                    for _ in bodies:
                        await begun.get()
                await asyncio.sleep(seconds)
            except TimeoutError:
                pass
            held = sum(not task.done() for task in tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return held

    def send(self, path: str, body: IO[bytes], size: int) -> bytes:
        """Post a file of so many bytes; return the answer."""
        connection = http.client.HTTPConnection(
            urlsplit(self.url).netloc, timeout=ANSWERS_WITHIN, blocksize=READ_BYTES
        )
        body.seek(0)
        headers = {**JSON, "x-api-key": self.secret, "content-length": str(size)}
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        if answer.status != 200:
            raise AssertionError(said[:500])
        return said

    def count_lines(self, path: str) -> int:
        """Read an answer to its end; return how many lines it has."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=ANSWERS_WITHIN)
        connection.request("GET", path, headers={"x-api-key": self.secret})
        answer = connection.getresponse()
        lines = sum(block.count(b"\n") for block in iter(lambda: answer.read(READ_BYTES), b""))
        connection.close()
        return lines

    async def _post_all(self, bodies: Iterator[bytes], connections: int, headers: Mapping[str, str]) -> None:
        async with self._session(connections) as session:

            async def post() -> None:
                for body in bodies:
                    async with session.post(self.url + MESSAGES, data=body, headers=headers) as answer:
                        said = await answer.read()
                    if not answer.ok or (answer.status == 200 and b'"type":"message"' not in said):
                        raise AssertionError(f"{answer.status}: {said[:200]!r}")

            await asyncio.gather(*(post() for _ in range(connections)))

    async def _begin(self, session: aiohttp.ClientSession, body: bytes, begun: asyncio.Queue[None]) -> None:
        async with session.post(self.url + MESSAGES, data=body) as answer:
            await answer.content.readany()
            begun.put_nowait(None)
            await answer.read()

    def _session(self, connections: int) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            headers={**JSON, "x-api-key": self.secret},
            connector=aiohttp.TCPConnector(limit=connections),
            timeout=aiohttp.ClientTimeout(total=ANSWERS_WITHIN),
        )


@contextmanager
def bare_server() -> Iterator[tuple[Caller, psutil.Process]]:
    """Run aiohttp on uvloop in a process of its own: it reads a body as JSON and answers with some."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Caller(f"http://127.0.0.1:{ours.recv()}", "none"), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.join()


def _run(ready: Connection) -> None:
    uvloop.run(_serve(ready))


async def _serve(ready: Connection) -> None:
    app = web.Application()
    app.router.add_post(MESSAGES, _answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    ready.send(runner.addresses[0][1])
    await asyncio.Event().wait()


async def _answer(request: web.Request) -> web.Response:
    msgspec.json.decode(await request.read())
    return web.json_response({"id": "0" * 32, "type": "carpool_request", "state": "queued"}, status=202)
