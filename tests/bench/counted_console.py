"""A console that says how many statements it has run: `python -m tests.bench.counted_console`.

It prints its URL, and then answers each line that it reads: `forget` drops what it has kept, as an act does; anything
else is answered with the number of statements so far.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import sqlalchemy as sa
from aiohttp import web
from tests.bench import places

from carpool_worker.console.app import create_app
from carpool_worker.console.state import CONSOLE
from carpool_worker.database import open_engine
from carpool_worker.processes.listening import Listening
from carpool_worker.processes.parent_death import wrapped
from carpool_worker.settings import read_settings

PASSWORD = "counted, said he"
ROLES = ["look", "act", "reveal", "admin"]
FORGET = "forget"
STOP_SECONDS = 10.0


class CountedConsole:
    """A console in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.process = psutil.Process(process.pid)
        self.url = self._said()

    @property
    def statements(self) -> int:
        """How many statements it has run."""
        self._tell("statements")
        return int(self._said())

    def forget(self) -> None:
        """Have it read everything anew that it is asked for."""
        self._tell(FORGET)
        self._said()

    def _tell(self, word: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def _said(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()


@contextmanager
def counted_console(redis_url: str, database_url: str) -> Iterator[CountedConsole]:
    """Run one; no API answers its doctor."""
    command = [sys.executable, "-m", "tests.bench.counted_console"]
    with places.environment(
        CARPOOL_REDIS_URL=redis_url,
        CARPOOL_DATABASE_URL=database_url,
        ANTHROPIC_BASE_URL="http://127.0.0.1:1",
        ANTHROPIC_API_KEY="none",
    ):
        process = subprocess.Popen(wrapped(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            yield CountedConsole(process)
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


async def _serve() -> None:
    settings = read_settings(console_password=PASSWORD, console_roles=ROLES)
    engine = open_engine(settings.database_url)
    statements = 0

    @sa.event.listens_for(engine, "before_cursor_execute")
    def count(_: object, __: object, statement: str, *___: Any) -> None:
        nonlocal statements
        statements += statement != "BEGIN"

    listening = Listening("127.0.0.1", 0)
    app = create_app(settings, engine, listening)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, listening.host, listening.port).start()
    print(listening.url(runner.addresses[0][1]), flush=True)
    over, loop = asyncio.Event(), asyncio.get_running_loop()

    def answer() -> None:
        for line in sys.stdin:
            if line.strip() == FORGET:
                loop.call_soon_threadsafe(app[CONSOLE].cached.forget)
            print(statements, flush=True)
        loop.call_soon_threadsafe(over.set)

    threading.Thread(target=answer, daemon=True).start()
    await over.wait()
    await runner.cleanup()
    engine.dispose()


if __name__ == "__main__":
    asyncio.run(_serve())
