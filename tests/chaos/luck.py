"""Minutes of luck: everything that can die does so at random, and everything that can answer wrongly does."""

from __future__ import annotations

import json
import signal
import time
from contextlib import suppress
from typing import Any

from tests.chaos.scenario import scenario
from tests.chaos.stack import Stack

from carpool_worker.simulator import SPEND_LIMIT_REACHED, Fault

PAUSE = (0.5, 3.0)
"""Seconds between two blows, drawn at random."""

MISBEHAVING = 0.25
"""The share of webhooks that the receiver answers badly."""

DATABASE = 0.5
"""The share of killed servers that are databases, if there is one."""

STATUSES = (400, 413, 429, 500, 502, 503, 504, 529)
DOUBTFUL_STATUSES = (500, 502, 503, 504)
"""With these the API may have created the batch all the same; with the others it has not."""

OPERATIONS = ("create", "retrieve", "list", "results")
KINDS = ("dropped", "lost", "error", "error_after", "stalled")

RELAYED: tuple[dict[str, Any], ...] = (
    {"operation": "list", "kind": "stub"},
    {"operation": "results", "kind": "page"},
    {"operation": "retrieve", "kind": "page"},
    {"operation": "create", "kind": "page"},
    {"operation": "create", "kind": "bare"},
    {"operation": "retrieve", "kind": "bare"},
    {"operation": "create", "kind": "cut_text", "status": 400},
    {"operation": "create", "kind": "cut_text", "status": 529},
    {"operation": "list", "kind": "cut_text", "status": 500},
    *(
        {"operation": "results", "kind": "rewritten", "form": form}
        for form in ("array", "pretty", "bom", "blank_lines", "twice", "cut_cleanly")
    ),
)
"""What proxies and relays make of the API's answers."""

FRESH_SETTLE = "20"
"""Seconds without a batch of ours in a list: a list that is a stub must not be believed for want of a first one."""

TOO_MANY: tuple[dict[str, Any], ...] = (
    {},
    {"retry_after": 1.0},
    {"headers": {"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}},
    {"error_code": SPEND_LIMIT_REACHED},
)
"""How an error says how long it lasts."""

BUDGETS = json.dumps({"books": {"day": 2, "over": "wait"}})
"""Dollars: enough for what its requests cost, but at a time only for a part of what they may cost."""


@scenario("luck", workers=2, CARPOOL_FRESH_SETTLE_INTERVAL=FRESH_SETTLE)
def luck(stack: Stack) -> None:
    """Strike at random until the time is up."""
    strike(stack)


@scenario(
    "luck with money saved",
    workers=2,
    CARPOOL_CACHE_SHARED_PROMPTS="true",
    CARPOOL_BUDGETS=BUDGETS,
    CARPOOL_FRESH_SETTLE_INTERVAL=FRESH_SETTLE,
)
def saved(stack: Stack) -> None:
    """Strike while shared prompts are cached and warmed up, and a client is over budget."""
    strike(stack)


def strike(stack: Stack) -> None:
    """Strike blow after blow at random until the time is up."""
    flower = stack.flower()
    flower.start()
    blows = [
        worker,
        child,
        child,
        child,
        other,
        producer,
        server,
        fault,
        fault,
        fault,
        fault,
        relay,
        relay,
        repeat,
    ]
    over = time.monotonic() + stack.minutes * 60
    stack.receiver.misbehave(MISBEHAVING, stack.luck)
    while time.monotonic() < over:
        time.sleep(stack.luck.uniform(*PAUSE))
        stack.luck.choice(blows)(stack)


def worker(stack: Stack) -> None:
    """Kill a worker, or ask it to stop."""
    number = stack.luck.choice((signal.SIGKILL, signal.SIGTERM))
    stack.luck.choice(stack.workers).kill(number)
    stack.inject(f"worker: {number.name}")


def child(stack: Stack) -> None:
    """Kill one of a worker's children."""
    stack.luck.choice(stack.workers).kill_child(stack.luck.randrange(100))
    stack.inject("worker's child: SIGKILL")


def other(stack: Stack) -> None:
    """Kill beat, the simulator or Flower."""
    number = stack.luck.choice((signal.SIGKILL, signal.SIGTERM))
    program = stack.luck.choice((stack.beat, stack.simulator, stack.keeper.programs["flower"]))
    program.kill(number)
    stack.inject(f"{program.name}: {number.name}")


def producer(stack: Stack) -> None:
    """Let a producer die while it enqueues many."""
    stack.produce(stack.luck.randrange(30))


def server(stack: Stack) -> None:
    """Kill Valkey or PostgreSQL; they restart with what they had written."""
    if stack.database.server and stack.luck.random() < DATABASE:
        stack.database.kill()
        stack.inject("PostgreSQL: SIGKILL")
        stack.database.start()
    else:
        stack.valkey.kill()
        stack.inject("Valkey: SIGKILL")


def fault(stack: Stack) -> None:
    """Arm a fault of the API."""
    kind = stack.luck.choice(KINDS)
    made = Fault(
        operation=stack.luck.choice(OPERATIONS),  # type: ignore[arg-type]
        kind=kind,  # type: ignore[arg-type]
        status=stack.luck.choice(DOUBTFUL_STATUSES if kind == "error_after" else STATUSES),
        **stack.luck.choice(TOO_MANY),
        seconds=stack.luck.uniform(0.1, 5.0),
        times=stack.luck.randint(1, 3),
    )
    arm(stack, made)


def relay(stack: Stack) -> None:
    """Arm a fault of what stands between Carpool and the API."""
    arm(stack, Fault(**stack.luck.choice(RELAYED), times=stack.luck.randint(1, 3)))


def repeat(stack: Stack) -> None:
    """Let a relay post twice what it is given once: what then runs twice is its doing, and must be named."""
    arm(stack, Fault(operation="create", kind="repeated", times=stack.luck.randint(1, 2)))


def arm(stack: Stack, fault: Fault) -> None:
    """Arm a fault, and count it."""
    with suppress(OSError, RuntimeError):  # the simulator may be dead at this moment
        stack.remote.arm(fault)
        stack.inject(f"API: {fault.operation} {fault.kind}", fault.times)
