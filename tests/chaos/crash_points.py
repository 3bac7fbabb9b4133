"""A crash at each point of the way: before and after every commit and every effect on the world (see mortal.py).

A point is armed as soon as it has been seen once, and strikes when it is passed the next time. The faults of the API
that are thrown in lead to the points that a calm run never passes: adoption, halving, sending again, retries.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from tests.chaos.points import Points
from tests.chaos.scenario import scenario
from tests.chaos.stack import Stack

from carpool_worker.simulator import Fault

DETOURS = (
    Fault(operation="create", kind="lost"),
    Fault(operation="create", kind="error", status=400),
    Fault(operation="create", kind="dropped"),
    Fault(operation="results", kind="truncated"),
    Fault(operation="create", kind="error", status=529),
    Fault(operation="create", kind="error_after"),
    Fault(operation="create", kind="error", status=402),
    Fault(operation="list", kind="error", status=500),
)
MISBEHAVING = 0.1
"""The share of webhooks that the receiver answers badly: a try that failed has points of its own."""

ROUND = 2
ROUND_SECONDS = 0.4
DETOUR_ROUNDS = 3
"""Requests of each client in a round, seconds between rounds, and how many rounds share a fault of the API."""

ROUNDS = 40
"""A walk lasts at least so long, so that it takes all detours."""

BUDGETS = json.dumps({"books": {"day": 0.5}})
"""Dollars: twice what a walk's requests of this client cost, and what some thirty of them may cost at most."""

PATIENCE = 45.0
"""Seconds without a strike or a new point after which the points that are left are given up, and named."""


DEAREST = (
    "before commit in aggregator.pool",
    "after commit in aggregator.pool",
    "before script in stream.acknowledge",
    "after commit in submitter._intend",
    "before POST batches in submitter._post",
    "after POST batches in submitter._post",
    "before commit in submitter.accept",
    "after commit in submitter.accept",
    "before commit in poller._apply",
    "after commit in poller._apply",
    "before commit in collector._commit",
    "after commit in collector._commit",
    "before commit in collector._complete",
    "after commit in stager.stage",
    "after commit in claims.claim",
    "before a webhook",
    "after a webhook",
    "after sending books.on_answer in celery_task._send",
    "before commit in claims.record",
    "after lpop in reply.answer_waits",
    "before script in reply.push",
)
"""The points at which work or money would be lost or doubled if anything were in the wrong order."""

AT_A_TIME = 3


@scenario("kill -9 at every point", CARPOOL_CACHE_SHARED_PROMPTS="true", CARPOOL_BUDGETS=BUDGETS)
def kill_child(stack: Stack) -> None:
    """Kill the process that is at the point."""
    walk(stack, "child", AT_A_TIME)


@scenario("kill -9 of the whole worker at every point", workers=2)
def kill_worker(stack: Stack) -> None:
    """Kill the worker whose process is at the point, with all its other processes."""
    walk(stack, "worker", 1)


@scenario("SIGTERM at every point", workers=2)
def terminate_worker(stack: Stack) -> None:
    """Ask the worker whose process is at the point to stop."""
    walk(stack, "term", 1)


@dataclass
class Walk:
    """Which points have struck, and which were armed in vain."""

    points: Points
    mode: str
    at_a_time: int
    struck: int = 0
    given_up: set[str] = field(default_factory=set)
    moved: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> list[str]:
        """The points that were seen and have not struck."""
        return sorted(set(self.points.seen) - set(self.points.struck))

    def step(self) -> bool:
        """Arm what is to strike next; tell whether there is anything left to strike."""
        armed, struck = self.points.armed, len(self.points.struck)
        if struck > self.struck or not armed:
            self.moved, self.struck = time.monotonic(), struck
        elif time.monotonic() > self.moved + PATIENCE:
            self.given_up |= set(armed)
            self.points.disarm()
            armed = []
        todo = [point for point in self.left if point not in self.given_up and point not in armed]
        self.points.arm(todo[: max(0, self.at_a_time - len(armed))], self.mode)
        return bool(todo or armed)


def walk(stack: Stack, mode: str, at_a_time: int) -> None:
    """Let every point strike once, so many of them armed at a time, until none is left or the time is up."""
    way = Walk(stack.points, mode, at_a_time)
    for number in _rounds(stack):
        if not way.step() and number > ROUNDS:
            break
    left = "; ".join(way.left) or "none"
    _count(stack, mode, f"{len(way.left)} points were seen and not passed again: {left}")


def strike(stack: Stack, mode: str, points: Sequence[str]) -> None:
    """Let these points strike once, all armed from the start, until none is left or the time is up."""
    stack.points.arm(points, mode)
    for _ in _rounds(stack):
        if not stack.points.armed:
            break
    _count(stack, mode, f"never passed: {'; '.join(stack.points.armed) or 'none'}")


def _count(stack: Stack, mode: str, note: str) -> None:
    stack.notes.append(note)
    for point in stack.points.struck:
        stack.inject(f"{mode}: {point}")


def _rounds(stack: Stack) -> Iterator[int]:
    stack.traffic.stop()
    stack.receiver.misbehave(MISBEHAVING, stack.luck)
    over = time.monotonic() + stack.minutes * 60
    faults = itertools.cycle(DETOURS)
    for number in itertools.count():
        if time.monotonic() > over:
            return
        if number % DETOUR_ROUNDS == 0:
            with suppress(OSError):
                stack.remote.arm(next(faults))
        stack.traffic.send(ROUND)
        yield number
        time.sleep(ROUND_SECONDS)
