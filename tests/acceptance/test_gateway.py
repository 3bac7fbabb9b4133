"""The gateway of `carpool up`: programs that know only Anthropic's SDK, and real processes that are killed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import anthropic
from tests.acceptance.conftest import RunningCarpool, until
from tests.fixtures.agents import request

from carpool_worker.simulator import RemoteSimulator

PROGRAM = """
import anthropic
message = anthropic.Anthropic().messages.create(
    model="claude-haiku-4-5", max_tokens=16, messages=[{"role": "user", "content": "By environment alone"}]
)
print(message.content[0].text)
"""


def test_a_program_whose_environment_alone_was_changed_gets_its_answer(
    running_carpool: RunningCarpool,
) -> None:
    with running_carpool() as carpool:
        environment = {
            "PATH": os.environ["PATH"],
            "ANTHROPIC_BASE_URL": carpool.gateway_url,
            "ANTHROPIC_API_KEY": carpool.gateway_secret,
        }
        said = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False
        )

        assert "By environment alone" in said.stdout, said.stderr
        assert asyncio.run(_ask_async(carpool.gateway_url, carpool.gateway_secret, 30)) == 30
        simulator = RemoteSimulator(carpool.simulator_url)
        until(lambda: simulator.ledger()["billed"] == 31)


async def _ask_async(url: str, secret: str, calls: int) -> int:
    async with anthropic.AsyncAnthropic(base_url=url, api_key=secret) as client:
        asked = [client.messages.create(**request(f"Question {n}")) for n in range(calls)]
        return len({message.id for message in await asyncio.gather(*asked)})
