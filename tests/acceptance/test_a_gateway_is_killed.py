"""A gateway that ends while it holds hundreds of calls: each is answered by the other one, and paid for once."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

import aiohttp
import anthropic
import pytest
from tests.fixtures.agents import request
from tests.fixtures.gateway import WorkingCarpool, at_work
from tests.fixtures.gateway_processes import STOP_SECONDS, GatewayProcess, balanced, gateways
from tests.fixtures.waiting import until

from carpool_worker.simulator import RemoteSimulator

MARKED = 600
"""Calls of the SDK, whose retries say that they are some."""

UNMARKED = 400
EQUAL = 20
"""Calls by hand, repeated byte for byte, and how many of these are equal to each other."""


async def by_the_sdk(url: str, secret: str) -> list[str]:
    limits = anthropic.DefaultAsyncHttpxClient(timeout=120)
    async with anthropic.AsyncAnthropic(
        base_url=url, api_key=secret, max_retries=5, http_client=limits
    ) as client:
        calls = [client.messages.create(**request(f"By the SDK: {n}")) for n in range(MARKED)]
        return [message.id for message in await asyncio.gather(*calls)]


async def by_hand(url: str, secret: str) -> list[str]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def ask(text: str) -> str:
            body = json.dumps(request(text)).encode()
            while True:
                try:
                    sent = session.post(f"{url}/v1/messages", data=body, headers={"x-api-key": secret})
                    async with sent as answer:
                        if answer.status == 200:
                            return str((await answer.json())["id"])
                        assert answer.status == 503, await answer.text()
                        assert "Retry-After" in answer.headers
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.5)

        texts = [f"By hand: {0 if n < EQUAL else n}" for n in range(UNMARKED)]
        return await asyncio.gather(*map(ask, texts))


async def both(url: str, secret: str) -> list[str]:
    found = await asyncio.gather(by_the_sdk(url, secret), by_hand(url, secret))
    return [*found[0], *found[1]]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "drained"])
def test_no_call_of_a_gateway_that_ends_is_lost_or_paid_for_twice(
    idle_carpool: WorkingCarpool,
    secret: str,
    redis_url: str,
    simulator: RemoteSimulator,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    calls = MARKED + UNMARKED
    environment = {
        "CARPOOL_REDIS_URL": redis_url,
        "CARPOOL_DATABASE_URL": str(idle_carpool.engine.url),
        "CARPOOL_GATEWAY_SILENCE": "2",
        "CARPOOL_GATEWAY_DRAIN": "1",
    }
    with (
        gateways(2, tmp_path, environment) as (one, other),
        balanced([one.port, other.port]) as url,
        asyncio.Runner() as runner,
    ):
        # Given that both hold some of the calls
        asking = runner.get_loop().create_task(both(url, secret))
        runner.run(until_async(lambda: idle_carpool.queued() == calls, 120.0))

        # When one is killed, with all calls unanswered; or is to end, and they have no answer in the time that it gives
        one.process.send_signal(number)
        assert one.process.wait(STOP_SECONDS) == (0 if number == signal.SIGTERM else -number)
        with at_work(idle_carpool):
            answers = runner.run(finished(asking))

    # Then each call has an answer of its own, and nothing ran twice
    assert len(set(answers)) == len(answers) == calls
    until(lambda: idle_carpool.ended(calls))
    assert number == signal.SIGKILL or is_drained(one)
    assert idle_carpool.rows("SELECT count(*) FROM requests") == [(calls,)]
    ledger = simulator.ledger()
    assert (ledger["billed"], ledger["ran_twice_count"]) == (calls, 0)


def is_drained(gateway: GatewayProcess) -> bool:
    """Whether it says that it held about half of the calls to the end, and gave up no others."""
    [line] = [line for line in gateway.said().splitlines() if "gateway drained" in line]
    held, cut = (int(found) for found in re.findall(r"(?:held|cut)\D*(\d+)", line))
    return 0 < cut == held < MARKED + UNMARKED


async def until_async(condition: Callable[[], bool], within: float = 60.0) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while not condition():
        assert loop.time() < deadline
        await asyncio.sleep(0.05)


async def finished(task: asyncio.Task[list[str]]) -> list[str]:
    async with asyncio.timeout(240):
        return await task
