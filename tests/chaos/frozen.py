"""Processes that stand still in the middle of a post, for longer than anybody waits for them, and then go on."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from tests.chaos.scenario import scenario
from tests.chaos.stack import Stack

STEPS = (
    "after commit in submitter._intend",
    "before POST batches in submitter._post",
    "before look in submitter._is_ours",
    "after POST batches in submitter._post",
    "before commit in submitter.accept",
)
"""The steps of a post, but for the gap between the last look and the last bytes."""

FROZEN_SECONDS = 22.0
"""Longer than a batch in doubt is searched for here: 5 s for its post, as long for the list, and beat's ticks."""

WAIT_SECONDS = 15.0
"""How long a step is waited for."""


@scenario("processes that stand still in the middle of a post", seconds=190, workers=2)
def freeze(stack: Stack) -> None:
    """Stop the process that passes a step, until its batch is given up and posted by another, then let it go on."""
    for step in STEPS:
        stack.points.arm([step], "freeze")
        over = time.monotonic() + WAIT_SECONDS
        while step not in stack.points.frozen and time.monotonic() < over:
            stack.traffic.send(2)
            time.sleep(0.2)
        if pid := stack.points.frozen.get(step):
            time.sleep(FROZEN_SECONDS)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            stack.inject(f"SIGSTOP: {step}")
        else:
            stack.points.disarm()
            stack.notes.append(f"never passed: {step}")
    for pid in stack.points.frozen.values():  # also one that passed its step at the last moment
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
