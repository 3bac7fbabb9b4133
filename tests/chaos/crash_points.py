"""A crash at each point of the way: before and after every commit and every outside effect (see mortal.py).

A point is armed once a process has passed it, and strikes when it is passed again. Faults of the API are thrown in to
reach the points that an undisturbed run never passes: adoption, splitting, sending again, retries.
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
    Fault(operation="messages", kind="lost"),
    Fault(operation="messages", kind="error", status=529),
)
MISBEHAVING = 0.1
"""The share of webhooks that the receiver answers badly: a failed attempt has points of its own."""

ROUND = 2
ROUND_SECONDS = 0.4
DETOUR_ROUNDS = 3
"""Requests of each client in a round, seconds between rounds, and how many rounds share a fault of the API."""

ROUNDS = 40
"""A walk lasts at least this many rounds, so that it takes all detours."""

BUDGETS = json.dumps({"books": {"day": 0.5}})
"""Dollars: twice what this client's requests cost in a walk, and the most that some thirty of them may cost."""

REAL_TIME_BUDGETS = json.dumps({"default": {"day": 1_000}})
URGENT = 0.3
"""The share of requests with a deadline, so that callers pass their points, too."""

GIVE_UP_SECONDS = 45.0
"""Seconds without a strike or a new point after which the armed points are given up, and named."""


COSTLIEST = (
    "before commit in aggregator.pool",
    "after commit in aggregator.pool",
    "before script in stream._delete",
    "after commit in submitter._intend",
    "before POST batches in submitter._post",
    "after POST batches in submitter._post",
    "before commit in submitter.accept",
    "after commit in submitter.accept",
    "before commit in poller._apply",
    "after commit in poller._apply",
    "before commit in collector._try_to_commit",
    "after commit in collector._try_to_commit",
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
"""The points at which work or money would be lost or doubled if anything were done in the wrong order."""

AT_A_TIME = 3


CALLING = (
    "before commit in call_queue.take_out",
    "after commit in call_queue.take_out",
    "before script in token_bucket.take",
    "before commit in fallback._claim_of",
    "after commit in fallback._claim_of",
    "before POST messages in fallback._make",
    "after POST messages in fallback._make",
    "before commit in call_outcomes.record_answer",
    "after commit in call_outcomes.record_answer",
    "before commit in call_outcomes.record_failure",
    "after commit in call_outcomes.record_failure",
)
"""The points at which a call in real time would be lost or made twice if anything were done in the wrong order."""


@scenario(
    "kill -9 at every point",
    CARPOOL_CACHE_SHARED_PROMPTS="true",
    CARPOOL_BUDGETS=BUDGETS,
    CARPOOL_REAL_TIME_BUDGETS=REAL_TIME_BUDGETS,
)
def kill_child(stack: Stack) -> None:
    """Kill the process that passes the point."""
    walk(stack, "child", AT_A_TIME)


@scenario(
    "kill -9 of the whole worker at every point", workers=2, CARPOOL_REAL_TIME_BUDGETS=REAL_TIME_BUDGETS
)
def kill_worker(stack: Stack) -> None:
    """Kill the worker whose process passes the point, with all its other processes."""
    walk(stack, "worker", 1)


@scenario("SIGTERM at every point", workers=2, CARPOOL_REAL_TIME_BUDGETS=REAL_TIME_BUDGETS)
def terminate_worker(stack: Stack) -> None:
    """Ask the worker whose process passes the point to stop."""
    walk(stack, "term", 1)


@dataclass
class Walk:
    """Which points have struck, and which were armed but never passed."""

    points: Points
    mode: str
    at_a_time: int
    struck: int = 0
    given_up: set[str] = field(default_factory=set)
    moved: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> list[str]:
        """The points that were passed but have not struck."""
        return sorted(set(self.points.seen) - set(self.points.struck))

    def step(self) -> bool:
        """Arm the points that are next; return whether any are left."""
        armed, struck = self.points.armed, len(self.points.struck)
        if struck > self.struck or not armed:
            self.moved, self.struck = time.monotonic(), struck
        elif time.monotonic() > self.moved + GIVE_UP_SECONDS:
            self.given_up |= set(armed)
            self.points.disarm()
            armed = []
        todo = [point for point in self.left if point not in self.given_up and point not in armed]
        self.points.arm(todo[: max(0, self.at_a_time - len(armed))], self.mode)
        return bool(todo or armed)


def walk(stack: Stack, mode: str, at_a_time: int) -> None:
    """Let every point strike once, `at_a_time` armed, until none is left or the time is up."""
    way = Walk(stack.points, mode, at_a_time)
    stack.traffic.urgent = URGENT
    for number in _rounds(stack):
        if not way.step() and number > ROUNDS:
            break
    left = "; ".join(way.left) or "none"
    _count(stack, mode, f"{len(way.left)} points were passed only once: {left}")


def strike(stack: Stack, mode: str, points: Sequence[str]) -> None:
    """Let these points strike once, all armed from the start, until none is left or the time is up."""
    stack.points.arm(points, mode)
    for _ in _rounds(stack):
        if not stack.points.armed:
            break
    _count(stack, mode, f"never passed: {'; '.join(stack.points.armed) or 'none'}")


def _count(stack: Stack, mode: str, note: str) -> None:
    stack.notes.append(note)
    if mode == "child" and any(worker.deaths for worker in stack.workers):
        stack.notes.append("a worker died with a process of its pool")
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
