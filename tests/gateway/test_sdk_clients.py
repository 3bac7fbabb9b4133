"""carpool.Anthropic and carpool.AsyncAnthropic at a real gateway: each call is run, and paid for, once."""

from __future__ import annotations

import asyncio

from tests.fixtures.agents import request
from tests.fixtures.gateway import WorkingCarpool
from tests.fixtures.waiting import until

import carpool
from carpool_worker.simulator import RemoteSimulator


def test_a_key_of_ones_own_is_one_request_however_often_it_is_asked_for(
    gateway: str, secret: str, working_carpool: WorkingCarpool, simulator: RemoteSimulator
) -> None:
    async def ask() -> set[str]:
        async with carpool.AsyncAnthropic(base_url=gateway, api_key=secret) as client:
            named = {"Idempotency-Key": "greeting-42"}
            calls = [client.messages.create(**request(), extra_headers=named) for _ in range(3)]
            answers = [
                *await asyncio.gather(*calls),
                await client.messages.create(**request(), extra_headers=named),
            ]
            return {answer.id for answer in answers}

    assert len(asyncio.run(ask())) == 1
    assert simulator.ledger()["billed"] == 1


def test_batches_are_at_hand(gateway: str, secret: str, working_carpool: WorkingCarpool) -> None:
    with carpool.Anthropic(base_url=gateway, api_key=secret) as client:
        batch = client.batches.create(requests=[{"custom_id": "doc-0", "params": request("Hello there")}])  # type: ignore[typeddict-item]
        until(lambda: client.batches.retrieve(batch.id).processing_status == "ended")
        [result] = client.batches.results(batch.id)
    assert result.result.type == "succeeded"
    assert "Hello there" in str(result.result.message.content[0])
