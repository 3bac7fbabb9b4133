"""Waits for the rest of a run: until everything is final and has arrived, or nothing moves any longer."""

from __future__ import annotations

import time

from tests.chaos import reading
from tests.chaos.stack import Stack

from carpool.contract import INBOX

LOOK_SECONDS = 0.2
STILL_SECONDS = 60.0
SETTLE_SECONDS = 600.0
"""The rest of a run has failed once nothing has moved for STILL_SECONDS, or after SETTLE_SECONDS in all."""

ANSWERS_SECONDS = 90.0
"""How long the last answers that a client waits for may take then."""


def settle(stack: Stack) -> str | None:
    """Wait until everything is final and delivered; return what is not, once nothing has moved for long."""
    stack.traffic.stop()
    still, moved = left(stack), time.monotonic()
    over = moved + SETTLE_SECONDS
    while still and time.monotonic() < min(over, moved + STILL_SECONDS):
        time.sleep(LOOK_SECONDS)
        before, still = still, left(stack)
        moved = time.monotonic() if still != before else moved
    return f"undisturbed, and yet not final: {still}" if still else None


def left(stack: Stack) -> dict[str, int]:
    """Return what is not final or has not arrived, counted by kind."""
    try:
        with stack.connection() as server:
            queued = int(server.xlen(INBOX))
        found = {"inbox entries": queued, **reading.still_open(stack.engine), **_missing(stack)}
    except Exception as error:  # a server that is away
        return {type(error).__name__: 1}
    return {kind: count for kind, count in found.items() if count}


def _missing(stack: Stack) -> dict[str, int]:
    rows = reading.rows(stack.engine)
    arrived = {"webhook": stack.receiver.taken, "task": stack.consumer.received}
    return {
        f"not arrived by {channel}": sum(row.channel == channel and row.id not in ids for row in rows)
        for channel, ids in arrived.items()
    }
