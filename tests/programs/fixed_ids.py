"""Between the tests of Anthropic's SDK and a gateway: their fixed ids become real batches, their fixed key a valid one.

The SDK tests its calls against a mock that answers for any id. Here each call that names `message_batch_id` is about a
batch that is as the call needs it: ended for all but `cancel`, and a new one for each `delete`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from threading import Thread
from typing import Any

import aiohttp
from aiohttp import web

FIXED_ID = "message_batch_id"
CURSORS = ("after_id", "before_id")
"""The list's parameters, which the tests give their own names as values."""

BATCHES = "/v1/messages/batches"
HELLO = {
    "model": "claude-haiku-4-5",
    "max_tokens": 16,
    "messages": [{"role": "user", "content": "Hello"}],
}
ENDS_WITHIN = 60.0
PASSED_BACK = ("content-type", "request-id", "retry-after", "x-should-retry")


class FixedIds:
    """Passes calls on to the gateway at `url`, with `key`."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url.rstrip("/")
        self._key = key
        self._ended: str | None = None

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve on a free port while the context lasts; yield the URL."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        runner = web.AppRunner(app)
        await runner.setup()
        async with aiohttp.ClientSession() as self._session:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0][:2]
            self._origin = f"http://{host}:{port}"
            yield self._origin
            await runner.cleanup()

    async def _pass_on(self, request: web.Request) -> web.Response:
        path, query = request.path, dict(request.query)
        if FIXED_ID in path:
            path = path.replace(FIXED_ID, await self._batch_for(request))
        for name in CURSORS:
            if query.get(name) == name:
                query[name] = await self._new_batch()
        status, headers, body = await self._call(request.method, path, request, await request.read(), query)
        kept = {name: headers[name] for name in PASSED_BACK if name in headers}
        return web.Response(
            status=status, body=body.replace(self._url.encode(), self._origin.encode()), headers=kept
        )

    async def _call(
        self, method: str, path: str, request: web.Request | None = None, body: Any = None, query: Any = None
    ) -> tuple[int, Any, bytes]:
        kept = ("content-type", "anthropic-version", "anthropic-beta", "anthropic-user-profile-id")
        given = request.headers if request is not None else {}
        headers = {name: given[name] for name in kept if name in given} | {"x-api-key": self._key}
        headers.setdefault("anthropic-version", "2023-06-01")
        sent: Any = {"json": body} if isinstance(body, dict) else {"data": body}
        async with self._session.request(
            method, self._url + path, params=query, headers=headers, **sent
        ) as answer:
            return answer.status, answer.headers, await answer.read()

    async def _batch_for(self, request: web.Request) -> str:
        if request.path.endswith("/cancel"):
            return await self._new_batch()
        if request.method == "DELETE":
            return await self._ended_batch()
        self._ended = self._ended or await self._ended_batch()
        return self._ended

    async def _new_batch(self) -> str:
        requests = [{"custom_id": "one", "params": HELLO}]
        made = await self._json("POST", BATCHES, {"requests": requests})
        return str(made["id"])

    async def _ended_batch(self) -> str:
        batch_id = await self._new_batch()
        async with asyncio.timeout(ENDS_WITHIN):
            while (await self._json("GET", f"{BATCHES}/{batch_id}"))["processing_status"] != "ended":  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        return batch_id

    async def _json(self, method: str, path: str, body: Any = None) -> Any:
        status, _, answer = await self._call(method, path, body=body)
        assert status == 200, answer
        return json.loads(answer)


@contextmanager
def fixed_ids(url: str, key: str) -> Iterator[str]:
    """Serve in a thread while the context lasts; yield the URL for the tests."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    serving = FixedIds(url, key).serving()
    try:
        yield asyncio.run_coroutine_threadsafe(serving.__aenter__(), loop).result(10)
    finally:
        asyncio.run_coroutine_threadsafe(serving.__aexit__(None, None, None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
