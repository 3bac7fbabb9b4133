"""Outages of Valkey, of the messages in it, of beat, and of clocks."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import redis
from tests.chaos.processes import Program
from tests.chaos.scenario import scenario
from tests.chaos.stack import Stack

from carpool_worker.coordination.keys import AGENTS, UNACKED, UNACKED_INDEX, queue
from carpool_worker.simulator import Fault

BLOWS = 4
QUEUES = [queue(agent) for agent in AGENTS if agent != "enqueue"]
"""Those whose messages may be lost: a message of `carpool.enqueue` is a request."""

LONG = 20.0
"""Seconds: longer than anything waits for a connection."""

ROOM = 2_000_000
"""Bytes that are left to a Valkey that is about to be full."""

JUMP = 60.0
"""Seconds: far longer than a lost create is searched for here (2 s, plus 7 s that its post may take)."""

MOST_COPIES = 10_000
"""Messages that are pushed again: each is a look at the tables, and a flood of them holds everything up for minutes on
a busy machine, which loses nothing but looks as if it did.
"""

NOT_DELIVERING = ",".join(f"carpool.{agent}" for agent in ("aggregate", "submit", "poll", "collect"))
"""The queues of a worker whose clock is wrong: receivers rightly refuse a webhook whose time is minutes off."""


def strike(stack: Stack, what: str, blow: Callable[[], Any], times: int = BLOWS) -> None:
    """Strike several times, one to three seconds apart, while requests flow."""
    for _ in range(times):
        time.sleep(stack.luck.uniform(1.0, 3.0))
        with suppress(redis.RedisError, psycopg.Error):  # it may still be down from the previous blow
            blow()
            stack.inject(what)


@scenario("Valkey killed with -9", seconds=30, databases=("sqlite",))
def valkey_killed(stack: Stack) -> None:
    """Kill Valkey; it restarts with its append-only file, part of which the kernel still had to write."""
    strike(stack, "Valkey: SIGKILL", stack.valkey.kill)


@scenario("Valkey killed with -9, appendfsync always", seconds=40, databases=("sqlite",))
def valkey_killed_that_syncs_always(stack: Stack) -> None:
    """Kill a Valkey that writes to the disk before it answers."""

    def kill() -> None:
        with stack.connection() as server:
            server.config_set("appendfsync", "always")
            time.sleep(1.0)
        stack.valkey.kill()

    strike(stack, "Valkey: SIGKILL", kill)


@scenario("Valkey away for 20 seconds", seconds=40, databases=("sqlite",))
def valkey_away(stack: Stack) -> None:
    """Stop Valkey long enough for every connection to fail."""
    time.sleep(2.0)
    stack.valkey.stop()
    stack.inject("Valkey: away for 20 s")
    time.sleep(LONG)
    stack.valkey.start()


@scenario("Valkey out of memory", seconds=60, databases=("sqlite",))
def valkey_full(stack: Stack) -> None:
    """Leave Valkey almost no memory for some seconds, then plenty."""
    with stack.connection() as server:
        used = int(server.info("memory")["used_memory"])
        server.config_set("maxmemory", used + ROOM)
        stack.inject("Valkey: full")
        for _ in range(20):
            stack.traffic.send(500)
        server.config_set("maxmemory", 0)
    refused = stack.traffic.refusals
    stack.notes.append(f"while it was full, producers got: {dict(refused) or 'no error'}")


@scenario("every message lost", seconds=60, databases=("sqlite",))
def messages_lost(stack: Stack) -> None:
    """Delete Celery's messages, queued and unacknowledged."""
    with stack.connection() as server:
        strike(
            stack,
            "Celery's messages: all lost",
            lambda: server.delete(*QUEUES, UNACKED, UNACKED_INDEX),
            15,
        )


@scenario("every message twice", seconds=20, workers=2)
def messages_doubled(stack: Stack) -> None:
    """Push every queued and every unacknowledged message again, over and over, up to so many copies."""
    with stack.connection() as server:
        over, pushed = time.monotonic() + 10.0, 0
        while time.monotonic() < over and pushed < MOST_COPIES:
            copies: list[tuple[str, Any]] = [
                (queue, message) for queue in QUEUES for message in server.lrange(queue, 0, -1)
            ]
            copies = [*copies, *_unacknowledged(server)][: MOST_COPIES - pushed]
            for queue, message in copies:
                server.lpush(queue, message)
            stack.inject("Celery's messages: delivered twice", len(copies))
            pushed += len(copies)
            time.sleep(0.05)


def _unacknowledged(server: redis.Redis) -> Iterator[tuple[str, bytes]]:
    for packed in server.hvals(UNACKED):
        message, _, queue = json.loads(packed)
        yield queue, json.dumps(message).encode()


@scenario("beat twice, then none for a while", seconds=60, databases=("sqlite",), workers=2)
def beat_twice(stack: Stack) -> None:
    """Run a second beat beside the first, then none, then one."""
    second = stack.keeper.add(Program("beat2", stack.beat._command, stack.environment, stack.folder))
    second.start()
    stack.inject("beat: a second one")
    time.sleep(8.0)
    second.stop()
    stack.beat.stop()
    stack.inject("beat: away for 10 s")
    time.sleep(10.0)


@scenario("clocks that jump", seconds=45)
def clocks_jump(stack: Stack) -> None:
    """Give one of two workers a clock of its own that jumps ahead and back, while creates are lost."""
    offset = stack.folder / "offset"
    offset.write_text("0")
    command = [
        sys.executable,
        "-m",
        "tests.chaos.jumpy",
        "worker",
        "--queues",
        NOT_DELIVERING,
        "--concurrency",
        "3",
    ]
    environment = {**stack.environment, "CHAOS_OFFSET": str(offset)}
    jumpy = stack.keeper.add(Program("jumpy", command, environment, stack.folder))
    jumpy.start()
    for jump in (JUMP, -JUMP, JUMP / 2, 0.0):
        with suppress(OSError, RuntimeError):
            stack.remote.arm(Fault(operation="create", kind="lost", times=2))
        time.sleep(5.0)
        offset.write_text(str(jump))
        stack.inject(f"clock: {jump:+.0f} s")
    time.sleep(3.0)
