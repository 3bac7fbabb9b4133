"""Calls in real time that are cut off: by kills of who makes them and of who answers them, and by lost answers."""

from __future__ import annotations

import signal
import time
from contextlib import suppress

from tests.chaos.crash_points import CALLING, REAL_TIME_BUDGETS
from tests.chaos.luck import arm
from tests.chaos.scenario import scenario
from tests.chaos.stack import Stack

from carpool_worker.simulator import Fault

URGENT = 0.7
"""The share of requests with a deadline."""

FLUSH_SECONDS = "2"
"""Long enough for most urgent requests to be called before their batch is sent."""

POLL_SECONDS = "3"
"""Long enough for requests to be called while Anthropic has them in a batch, where their client pays again."""

PAUSE = (1.5, 4.0)
"""Seconds between two blows."""

FAULTS = (
    {"kind": "lost"},
    {"kind": "dropped"},
    {"kind": "truncated"},
    {"kind": "page"},
    {"kind": "stalled"},
    {"kind": "error_after", "status": 502},
    {"kind": "error", "status": 500},
    {"kind": "error", "status": 429, "retry_after": 1.0},
    {"kind": "error", "status": 529},
    {"kind": "error", "status": 401},
)
"""What becomes of an answer, or comes instead of one."""

CALLERS = 0.7
"""The share of killed processes that are callers."""

TIMEOUT = "6"
"""Seconds that a call may take."""


@scenario(
    "real-time calls",
    workers=2,
    CARPOOL_REAL_TIME_BUDGETS=REAL_TIME_BUDGETS,
    CARPOOL_REAL_TIME_REQUESTS_A_MINUTE="3000",
    CARPOOL_REAL_TIME_TIMEOUT=TIMEOUT,
    CARPOOL_FLUSH_INTERVAL=FLUSH_SECONDS,
    CARPOOL_POLL_INTERVAL=POLL_SECONDS,
)
def calls_cut_off(stack: Stack) -> None:
    """Kill workers with their callers, single processes, Valkey and the simulator; lose answers in between."""
    stack.traffic.urgent = URGENT
    stack.points.arm(CALLING, "child")
    over = time.monotonic() + stack.minutes * 60
    blows = [worker, child, child, child, simulator, valkey, fault, fault, fault, fault, fault, fault]
    while time.monotonic() < over:
        time.sleep(stack.luck.uniform(*PAUSE))
        stack.luck.choice(blows)(stack)
    stack.notes.append(
        f"of the points of a call, {len(set(CALLING) & set(stack.points.struck))} of {len(CALLING)} struck"
    )


def worker(stack: Stack) -> None:
    """Kill a worker with all of its processes, or ask it to end while calls are under way."""
    number = stack.luck.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
    stack.luck.choice(stack.workers).kill(number)
    stack.inject(f"worker: {number.name}")


def child(stack: Stack) -> None:
    """Kill the next process that passes a point of a call, or any of a worker's."""
    if stack.luck.random() < CALLERS:
        point = stack.luck.choice(CALLING)
        stack.points.arm([point], "child")
        stack.inject(f"child: {point}")
    else:
        stack.luck.choice(stack.workers).kill_child(stack.luck.randrange(100))
        stack.inject("worker's child: SIGKILL")


def simulator(stack: Stack) -> None:
    """Kill the API: it has answered or not, and is away for a moment."""
    stack.simulator.kill()
    stack.inject("simulator: SIGKILL")


def valkey(stack: Stack) -> None:
    """Kill Valkey, with the rate limits and the locks in it."""
    stack.valkey.kill()
    stack.inject("Valkey: SIGKILL")


def fault(stack: Stack) -> None:
    """Lose answers, or have them be none."""
    what = stack.luck.choice(FAULTS)
    made = Fault(operation="messages", seconds=5.0, times=stack.luck.randint(1, 4), **what)
    with suppress(OSError, RuntimeError):
        arm(stack, made)
