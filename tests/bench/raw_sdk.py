"""The whole way without Carpool: the raw SDK in one process and in memory, which a crash loses.

One `messages.batches.create` of all requests, polls with the pause that Carpool has, results streamed into a dict.
"""

from __future__ import annotations

import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import anthropic
import psutil
from tests.bench import payloads
from tests.bench.meter import measured, tree
from tests.bench.rows import Row

POLL_SECONDS = 1.0
ENDS_WITHIN = 150.0
"""Seconds after which a run is given up."""


def run(count: int, simulator: psutil.Process) -> Row:
    """Measure it against the simulator that ANTHROPIC_BASE_URL names."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(count, theirs), daemon=True)
    process.start()
    theirs.close()
    ours.recv()
    programs = {"sdk": psutil.Process(process.pid), "simulator": simulator}
    try:
        with measured(lambda: {name: tree(root) for name, root in programs.items()}) as spent:
            ours.send("begin")
            if not ours.poll(ENDS_WITHIN):
                raise TimeoutError(f"the SDK was not through within {ENDS_WITHIN:.0f} s")
            seconds = ours.recv()
    finally:
        process.terminate()
        process.join()
    return Row("raw SDK in memory", "", count, seconds, cpu=spent.cpu, peaks=spent.peaks)


def _run(count: int, pipe: Connection) -> None:
    next(payloads.prose(1))  # makes the texts
    with anthropic.Anthropic() as client:
        pipe.send("ready")
        pipe.recv()
        start = time.perf_counter()
        answers = _answers(client, count)
        seconds = time.perf_counter() - start
    if sum(result.type == "succeeded" for result in answers.values()) != count:
        raise AssertionError(f"not all of {count:,} succeeded")
    pipe.send(seconds)
    pipe.recv()  # until the last look at this process


def _answers(client: anthropic.Anthropic, count: int) -> dict[str, Any]:
    requests: Any = [
        {"custom_id": f"{number:032x}", "params": params}
        for number, params in enumerate(payloads.prose(count))
    ]
    batch = client.messages.batches.create(requests=requests)
    while batch.processing_status != "ended":
        time.sleep(POLL_SECONDS)
        batch = client.messages.batches.retrieve(batch.id)
    return {line.custom_id: line.result for line in client.messages.batches.results(batch.id)}
