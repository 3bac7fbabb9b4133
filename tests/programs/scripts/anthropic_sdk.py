"""Anthropic's Python SDK, synchronous and asynchronous, as it comes from its package."""

from __future__ import annotations

import asyncio
import time

import anthropic

MODEL = "claude-haiku-4-5"
HELLO = [{"role": "user", "content": "Hello, Claude"}]
PARAMS = {"model": MODEL, "max_tokens": 64, "messages": HELLO}
ANSWER = "[simulated] An answer to: Hello, Claude"
REQUESTS = [{"custom_id": f"doc-{number}", "params": PARAMS} for number in range(3)]


def synchronous() -> None:
    with anthropic.Anthropic() as client:
        assert client.messages.create(**PARAMS).content[0].text == ANSWER
        print("ok: messages.create")
        with client.messages.stream(**PARAMS) as stream:
            assert "".join(stream.text_stream) == ANSWER
            assert stream.get_final_message().stop_reason == "end_turn"
        print("ok: messages.stream")
        assert client.messages.count_tokens(model=MODEL, messages=HELLO).input_tokens > 0
        print("ok: messages.count_tokens")
        models = list(client.models.list())
        assert client.models.retrieve(models[0].id) == models[0]
        print("ok: models.list, models.retrieve")
        batch = client.messages.batches.create(requests=REQUESTS)
        while client.messages.batches.retrieve(batch.id).processing_status != "ended":
            time.sleep(0.2)
        lines = {line.custom_id: line.result for line in client.messages.batches.results(batch.id)}
        assert {name: result.message.content[0].text for name, result in lines.items()} == {
            request["custom_id"]: ANSWER for request in REQUESTS
        }
        assert batch.id in [one.id for one in client.messages.batches.list(limit=5).data]
        print("ok: messages.batches")
        try:
            client.messages.create(model=MODEL, max_tokens=64, messages=[])
        except anthropic.BadRequestError as error:
            print("ok: an error of the right kind:", error.body["error"]["type"])


async def asynchronous() -> None:
    async with anthropic.AsyncAnthropic() as client:
        answers = await asyncio.gather(*(client.messages.create(**PARAMS) for _ in range(20)))
        assert {answer.content[0].text for answer in answers} == {ANSWER}
        print("ok: 20 calls at once")
        async with client.messages.stream(**PARAMS) as stream:
            assert "".join([text async for text in stream.text_stream]) == ANSWER
        print("ok: asynchronous messages.stream")
        batch = await client.messages.batches.create(requests=REQUESTS)
        while (await client.messages.batches.retrieve(batch.id)).processing_status != "ended":
            await asyncio.sleep(0.2)
        results = await client.messages.batches.results(batch.id)
        assert len([line async for line in results if line.result.type == "succeeded"]) == len(REQUESTS)
        print("ok: asynchronous messages.batches")


synchronous()
asyncio.run(asynchronous())
