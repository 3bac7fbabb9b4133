"""Receivers that take nothing for long, with answers for them piling up."""

from __future__ import annotations

import time

from tests.chaos import reading
from tests.chaos.scenario import scenario
from tests.chaos.stack import Stack
from tests.fixtures.waiting import until

ROUNDS, EACH = 10, 100
PAUSE_SECONDS = 2.0
WAITING = frozenset({"available", "delivering", "retryable"})

OTHERS_SECONDS = 60.0
"""How long the answers of other services may take meanwhile, on a busy machine with workers that die."""


@scenario("a receiver that hangs, with a backlog", seconds=100, workers=2)
def hanging(stack: Stack) -> None:
    """Leave every webhook without an answer while a backlog grows and workers die; other services get their answers."""
    stack.receiver.hang()
    for _ in range(ROUNDS):
        stack.traffic.send(EACH)
        time.sleep(PAUSE_SECONDS)
        stack.luck.choice(stack.workers).kill_child(stack.luck.randrange(100))
        stack.inject("worker's child: SIGKILL")
    stack.traffic.stop()
    began = time.monotonic()
    try:
        until(lambda: not _tasks_owed(stack), OTHERS_SECONDS)
    except TimeoutError:
        stack.broken.append(f"{_tasks_owed(stack)} tasks did not arrive while the receiver of webhooks hung")
    backlog = sum(row.channel == "webhook" and row.delivery in WAITING for row in reading.rows(stack.engine))
    last = time.monotonic() - began
    stack.notes.append(f"{backlog:,} webhooks waited; the last task came {last:.1f} s after the last enqueue")
    stack.receiver.answer()


def _tasks_owed(stack: Stack) -> int:
    received = stack.consumer.received
    return sum(row.channel == "task" and row.id not in received for row in reading.rows(stack.engine))
