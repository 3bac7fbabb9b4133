"""A receiver of webhooks: verifies with the foreign library, counts webhook-ids, and misbehaves when told to."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from random import Random

from aiohttp import web
from standardwebhooks import Webhook as ForeignVerifier

START_SECONDS = 10.0
HANG_SECONDS = 4.0
MISDEEDS = ("500", "503", "429", "redirect", "reset", "hang", "taken, then reset")


class Receiver:
    """An HTTP server in a thread.

    `taken` counts the posts that it answered with 204, `seen` all with a valid signature; `broken` says what was wrong.
    """

    def __init__(self, secret: str) -> None:
        self.taken: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.misdeeds: Counter[str] = Counter()
        self.broken: list[str] = []
        self.share = 0.0
        self._answers = asyncio.Event()
        self._answers.set()
        self._luck = Random()
        self._verifier = ForeignVerifier(secret)
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._started.wait(START_SECONDS)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._port}/claude"

    def misbehave(self, share: float, luck: Random | None = None) -> None:
        """Misbehave to this share of the posts, 0 to 1; `luck` chooses how."""
        self.share = share
        self._luck = luck or self._luck

    def hang(self) -> None:
        """Take no post from now on, and leave each without an answer, until it answers again."""
        self._loop.call_soon_threadsafe(self._answers.clear)

    def answer(self) -> None:
        """Answer again."""
        self._loop.call_soon_threadsafe(self._answers.set)

    def close(self) -> None:
        """Stop serving."""
        self.answer()
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(START_SECONDS)

    def _run(self) -> None:
        # Whoever stops an attack may do so while posts hang: a Runner ends what answers them.
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._over = asyncio.Event()
        app = web.Application()
        app.router.add_post("/claude", self._take)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self._port = runner.addresses[0][1]
        self._started.set()
        await self._over.wait()
        await runner.cleanup()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        webhook_id = request.headers.get("webhook-id", "")
        try:
            data = self._verifier.verify(body, dict(request.headers))["data"]
        except Exception as error:  # whatever it is, this post breaks the promise
            self.broken.append(f"{webhook_id}: {type(error).__name__}")
            return web.Response(status=400)
        if data["id"] != webhook_id:
            self.broken.append(f"webhook-id {webhook_id} for {data['id']}")
        self.seen[webhook_id] += 1
        if not self._answers.is_set():
            return await self._hold()
        if self._luck.random() < self.share:
            return await self._misbehave(request, webhook_id)
        self.taken[webhook_id] += 1
        return web.Response(status=204)

    async def _hold(self) -> web.Response:
        self.misdeeds["receiver: held without an answer"] += 1
        await self._answers.wait()
        return web.Response(status=504)

    async def _misbehave(self, request: web.Request, webhook_id: str) -> web.StreamResponse:
        misdeed = self._luck.choice(MISDEEDS)
        self.misdeeds[f"receiver: {misdeed}"] += 1
        match misdeed:
            case "redirect":
                return web.Response(status=307, headers={"Location": "/claude"})
            case "429":
                return web.Response(status=429, headers={"Retry-After": "1"})
            case "hang":
                await asyncio.sleep(HANG_SECONDS)
                return web.Response(status=504)
            case "taken, then reset":
                self.taken[webhook_id] += 1
            case "500" | "503":
                return web.Response(status=int(misdeed))
        if request.transport is not None:
            request.transport.abort()
        return web.Response()
