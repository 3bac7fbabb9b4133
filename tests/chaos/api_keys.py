"""API keys that are replaced while requests flow, and one of another workspace that is used by mistake."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress

from tests.chaos.processes import Program
from tests.chaos.scenario import scenario
from tests.chaos.stack import Stack

from carpool_worker.simulator import Fault

ROLLED, ELSEWHERE = "rolled", "elsewhere"
"""A key of the same workspace as the stack's own, and one of another."""

ACCOUNTS = json.dumps({"default": {"retired_keys": ["env:RETIRED_KEY"]}})
"""Only a worker that has the variable has a retired key."""

PHASE = 4.0
"""Seconds between two blows."""


@scenario(
    "API keys replaced, one by another workspace's",
    seconds=60,
    databases=("sqlite",),
    CARPOOL_ACCOUNTS=ACCOUNTS,
)
def keys_replaced(stack: Stack) -> None:
    """Let workers with different keys work side by side while creates are lost; at last, one has all keys.

    What the key of another workspace has posted waits, once its worker is stopped, for the one that has it as a retired
    key. The other workers see it never.
    """
    stack.remote.assign({ELSEWHERE: "wrkspc_elsewhere"})
    rolled = _worker(stack, ROLLED, ANTHROPIC_API_KEY=ROLLED)
    mistaken = _worker(stack, ELSEWHERE, ANTHROPIC_API_KEY=ELSEWHERE)
    for worker in (rolled, mistaken):
        worker.start()
        stack.inject(f"a worker with the key {worker.name}")
    for worker in (mistaken, rolled, stack.workers[0], mistaken):
        _lose_creates(stack)
        time.sleep(PHASE)
        worker.kill()
        stack.inject("worker: SIGKILL")
    _lose_creates(stack)
    time.sleep(PHASE)
    mistaken.stop()
    stack.inject("the mistaken key is taken back")
    time.sleep(PHASE)
    _worker(stack, "mended", RETIRED_KEY=ELSEWHERE).start()


def _worker(stack: Stack, name: str, **environment: str) -> Program:
    command = [sys.executable, "-m", "tests.chaos.mortal", "worker", "--concurrency", "3"]
    return stack.keeper.add(Program(name, command, {**stack.environment, **environment}, stack.folder))


def _lose_creates(stack: Stack) -> None:
    with suppress(OSError, RuntimeError):
        for kind in ("lost", "dropped"):
            stack.remote.arm(Fault(operation="create", kind=kind))
            stack.inject(f"API: create {kind}")
