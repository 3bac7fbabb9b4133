"""The processes around the workers are killed: the producer between appends, beat, the simulator, Flower."""

from __future__ import annotations

import signal
import time

from tests.chaos.scenario import scenario
from tests.chaos.stack import Stack

MOMENTS = 24
"""Moments of `enqueue_many` at which its producer dies, one producer each; the last few survive."""

PAUSE = (1.0, 4.0)
ROUNDS = 4


@scenario("the producer killed with -9 between any two appends", seconds=120)
def producer_killed(stack: Stack) -> None:
    """Kill a producer at every moment of its work."""
    stack.traffic.stop()
    for moment in range(MOMENTS):
        stack.produce(moment)


@scenario("beat, the simulator and Flower killed or stopped", seconds=120)
def others_killed(stack: Stack) -> None:
    """Kill each in turn, with traffic flowing."""
    flower = stack.flower()
    flower.start()
    for _ in range(ROUNDS):
        for program in (stack.beat, stack.simulator, flower):
            for number in (signal.SIGKILL, signal.SIGTERM):
                time.sleep(stack.luck.uniform(*PAUSE))
                program.kill(number)
                stack.inject(f"{program.name}: {number.name}")
