"""What others do to a Redis that Carpool shares with them, and a service that takes none of its answers for a while."""

from __future__ import annotations

import time

from tests.chaos.consumer import TASK_QUEUE
from tests.chaos.scenario import scenario
from tests.chaos.stack import Stack

FLAPS = 12
MOST_AWAY = 1.5
"""Seconds: some connections fail at once, others wait and succeed."""

SMALL_QUEUE = "20"
"""Messages in a service's queue above which its answers wait in the tables."""


@scenario("Valkey flapping", seconds=60, databases=("sqlite",), workers=2)
def valkey_flapping(stack: Stack) -> None:
    """Stop Valkey again and again, each time for a moment, at no moment that anything waits for."""
    for _ in range(FLAPS):
        time.sleep(stack.luck.uniform(0.1, 3.0))
        stack.valkey.stop()
        time.sleep(stack.luck.uniform(0.0, MOST_AWAY))
        stack.valkey.start()
        stack.inject("Valkey: away for a moment")


@scenario(
    "a service away, its queue full", seconds=60, databases=("sqlite",), CARPOOL_TASK_QUEUE_LIMIT=SMALL_QUEUE
)
def service_away(stack: Stack) -> None:
    """Have a service take no task while answers for it come in, far more than its queue may hold; then have it back."""
    stack.consumer.pause()
    stack.inject("service: takes no task")
    longest = 0
    with stack.connection() as server:
        for _ in range(20):
            stack.traffic.send(100)
            longest = max(longest, int(server.llen(TASK_QUEUE)))
            time.sleep(1.0)
    stack.consumer.resume()
    stack.notes.append(f"its queue grew to {longest} messages of {SMALL_QUEUE} allowed")
