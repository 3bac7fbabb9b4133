"""Message Batches through the gateway: a script for Anthropic's SDK, with nothing but the import changed.

Beside a `carpool up`, which says where its gateway is, and a first key for it, in .carpool/env:

    source .carpool/env
    python docs/examples/anthropic_batches.py
"""

from __future__ import annotations

import time

import carpool

DOCUMENTS = ["The kettle boils in a minute.", "It broke after a day, terrible.", "I love it."]

client = carpool.Anthropic()  # was: anthropic.Anthropic()

batch = client.batches.create(
    requests=[
        {
            "custom_id": f"doc-{number}",
            "params": {
                "model": "claude-haiku-4-5",
                "max_tokens": 1024,
                "messages": [{"role": "user", "content": f"Summarize this in one sentence: {document}"}],
            },
        }
        for number, document in enumerate(DOCUMENTS)
    ]
)
while client.batches.retrieve(batch.id).processing_status != "ended":
    time.sleep(1)
for result in client.batches.results(batch.id):
    if result.result.type == "succeeded":
        block = result.result.message.content[0]
        print(result.custom_id, block.text if block.type == "text" else block.type)
    else:
        print(result.custom_id, result.result.type)
