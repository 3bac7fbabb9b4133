"""Many who keep a page open, as static/console.js does: each listens, and fetches its page again once that is due."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Event, Thread

import aiohttp
import redis
from tests.fixtures.console import Browser

LIVE = re.compile(r'data-live="(\d+)"')
STALE_SECONDS, LOOK_SECONDS = 60.0, 1.0
"""As in static/console.js."""

MOVES_SECONDS = 1.0
"""Between two changes of what is shown to move."""


SETTLING_SECONDS = 15.0
"""Until what a console reads once, such as what the doctor finds, is mostly read."""


def look(browser: Browser, paths: Sequence[str], seconds: float, settled: Callable[[], object]) -> int:
    """Keep so many pages open, and for so long once they are `settled`; return how often one was fetched again."""
    cookies = {cookie.name: cookie.value or "" for cookie in browser.cookies}
    return asyncio.run(_look(browser.url, cookies, paths, seconds, settled))


@contextmanager
def movement(server: redis.Redis) -> Iterator[None]:
    """Let the inbox grow all the time."""
    over = Event()

    def move() -> None:
        while not over.wait(MOVES_SECONDS):
            server.incr("carpool:{0}:queued")

    thread = Thread(target=move)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


async def _look(
    url: str, cookies: dict[str, str], paths: Sequence[str], seconds: float, settled: Callable[[], object]
) -> int:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector, cookies=cookies) as session:
        lookers = [_Looker(session, path) for path in paths]
        await asyncio.gather(*(one.fetch() for one in lookers))
        open_ = asyncio.gather(*(one.listen() for one in lookers), *(one.refresh() for one in lookers))
        for length, then in ((SETTLING_SECONDS, settled), (seconds, open_.cancel)):
            await asyncio.wait([open_], timeout=length)
            then()
        with suppress(asyncio.CancelledError):
            await open_
    return sum(one.fetched - 1 for one in lookers)


class _Looker:
    """One page that is open."""

    def __init__(self, session: aiohttp.ClientSession, path: str) -> None:
        self._session = session
        self._path = path
        self._sections: list[float] = []
        self._moved = 0.0
        self._fetched_at: list[float] = []
        self.fetched = 0

    async def fetch(self) -> None:
        async with self._session.get(self._path) as answer:
            text = await answer.text()
            if answer.status != 200:
                raise RuntimeError(f"{self._path}: {answer.status}")
        self._sections = [float(found) for found in LIVE.findall(text)]
        self._fetched_at = self._fetched_at or [time.monotonic()] * len(self._sections)
        self.fetched += 1

    async def listen(self) -> None:
        async with self._session.get("/live", timeout=aiohttp.ClientTimeout(total=None)) as stream:
            async for line in stream.content:
                if line == b"event: changed\n":
                    self._moved = time.monotonic()

    async def refresh(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = time.monotonic()
            due = [place for place in range(len(self._sections)) if self._is_due(place, now)]
            if due:
                await self.fetch()
                for place in due:
                    if place < len(self._fetched_at):
                        self._fetched_at[place] = time.monotonic()

    def _is_due(self, place: int, now: float) -> bool:
        since = self._fetched_at[place] if place < len(self._fetched_at) else now
        waited = now - since
        return waited >= STALE_SECONDS or (self._moved > since and waited >= self._sections[place])
