"""Gateways that are killed while calls wait in them, and while Redis or the workers go too."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from random import Random
from urllib.request import urlopen

import aiohttp
from tests.chaos.operating import carpool
from tests.chaos.processes import Program
from tests.chaos.scenario import scenario
from tests.chaos.stack import Stack
from tests.chaos.traffic import MODELS, SECRET
from tests.conftest import free_port
from tests.fixtures.waiting import until

CLIENT = "caller"
CALLS = 150
"""Under way at a time; half of them mark their retries, as SDKs do, and half repeat them byte for byte."""

BLOWS = 10
PAUSE = (3.0, 9.0)
AGAIN_SECONDS = 0.3
START_SECONDS = 60.0
ANSWERED_SECONDS = 120.0


class Callers:
    """Programs that call the gateways, each until it has its Message, whatever happens to its connection.

    `answered` counts the answers by their requests' ids.
    """

    def __init__(self, urls: list[str], secret: str, luck: Random) -> None:
        self.answered: Counter[str] = Counter()
        self.calls = 0
        self.repeated = 0
        self.refused: list[str] = []
        self._urls, self._secret = urls, secret
        self._luck = Random(luck.random())
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._call_all()))
        self._thread.start()

    def end(self) -> None:
        """Begin no more calls, and return once each that was begun has its answer."""
        self._ended.set()
        self._thread.join(ANSWERED_SECONDS)

    async def _call_all(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
            await asyncio.gather(*(self._call_on(session, number % 2 == 0) for number in range(CALLS)))

    async def _call_on(self, session: aiohttp.ClientSession, marks: bool) -> None:
        while not self._ended.is_set():
            self.calls += 1
            await self._answer(session, self.calls, marks)

    async def _answer(self, session: aiohttp.ClientSession, number: int, marks: bool) -> None:
        content = f"{SECRET} Call {number}."
        message = {"role": "user", "content": content}
        body = json.dumps({"model": self._luck.choice(MODELS), "max_tokens": 64, "messages": [message]})
        retries = 0
        while not (request_id := await self._once(session, body, retries if marks else 0)):
            retries += 1
            self.repeated += 1
            await asyncio.sleep(AGAIN_SECONDS)
        self.answered[request_id] += 1

    async def _once(self, session: aiohttp.ClientSession, body: str, retries: int) -> str | None:
        headers = {"x-api-key": self._secret, "x-stainless-retry-count": str(retries)}
        try:
            url = f"{self._luck.choice(self._urls)}/v1/messages"
            async with session.post(url, data=body, headers=headers) as answer:
                text = await answer.text()
                if answer.status == 200 and json.loads(text)["type"] == "message":
                    return answer.headers["x-carpool-request-id"]
                if answer.status not in (503, 529):
                    self.refused.append(f"{answer.status}: {text[:100]}")
        except (aiohttp.ClientError, OSError):
            pass
        return None


@scenario(
    "gateways killed with calls that wait",
    seconds=240,
    workers=2,
    CARPOOL_GATEWAY_SILENCE="2",
    CARPOOL_GATEWAY_PING_INTERVAL="1",
)
def gateways_killed(stack: Stack) -> None:
    """Kill one gateway after the other, now and then a worker or Valkey, while programs repeat what was cut off."""
    [key] = carpool(stack, "keys", "create", CLIENT, "--json")
    ports = [free_port(), free_port()]
    gateways = [started(stack, number, port) for number, port in enumerate(ports)]
    with _calling(stack, [f"http://127.0.0.1:{port}" for port in ports], key["secret"]) as callers:
        for _ in range(BLOWS):
            time.sleep(stack.luck.uniform(*PAUSE))
            victim = stack.luck.choice([*gateways, *gateways, *gateways, *stack.workers, stack.valkey])
            victim.kill()
            stack.inject(f"{victim.name}: SIGKILL")
    stack.notes.append(f"{callers.calls:,} calls, repeated {callers.repeated:,} times")


@contextmanager
def _calling(stack: Stack, urls: list[str], secret: str) -> Iterator[Callers]:
    """Let programs call while this context is open; then every call must have an answer of its own."""
    callers = Callers(urls, secret, stack.luck)
    try:
        yield callers
    finally:
        callers.end()
    stack.traffic.accepted.update(callers.answered)
    stack.traffic.answered.update(callers.answered)
    stack.broken += callers.refused[:3]
    answers = callers.answered.total()
    if not answers == callers.calls == len(callers.answered):
        had = f"{answers:,} answers, of {len(callers.answered):,} requests"
        stack.broken.append(f"{callers.calls:,} calls had {had}")


def started(stack: Stack, number: int, port: int) -> Program:
    """Return a gateway that is ready, and that is started again whenever it dies."""
    command = [sys.executable, "-m", "carpool_worker.cli", "gateway", "--port", str(port)]
    program = stack.keeper.add(Program(f"gateway{number}", command, stack.environment, stack.folder))
    program.start()
    until(lambda: _is_ready(port), START_SECONDS, progress=program.last_words)
    return program


def _is_ready(port: int) -> bool:
    with suppress(OSError):
        return bool(urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).status == 200)
    return False
