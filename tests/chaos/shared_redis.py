"""What others do to a Redis that Carpool shares with them, and a service that takes none of its answers for a while."""

from __future__ import annotations

import sys
import time
from contextlib import closing

import redis
from tests.chaos import foreign_app
from tests.chaos.consumer import TASK_QUEUE
from tests.chaos.processes import Program
from tests.chaos.scenario import scenario
from tests.chaos.stack import Stack
from tests.fixtures.waiting import until

FLAPS = 12
MOST_AWAY = 1.5
"""Seconds: some connections fail at once, others wait and succeed."""

FOREIGN_TASKS = 2
FOREIGN_START_SECONDS = 60.0
TWO_HOURS = 7_200.0
"""Seconds: longer than a message of Carpool's own stays unacknowledged before it is handed out again."""

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


@scenario("another Celery app on the same Redis", seconds=120, databases=("sqlite",), workers=2)
def foreign_app_beside(stack: Stack) -> None:
    """Kill workers while another app's tasks run for hours, by its broker's clock; then let it stop its own."""
    command = [sys.executable, "-m", "celery", "--app", foreign_app.__name__, "worker", "--concurrency", "2"]
    stack.keeper.add(Program("foreign", command, stack.environment, stack.folder)).start()
    with closing(foreign_app.connected(stack.redis_url)) as app, stack.connection() as server:
        for number in range(FOREIGN_TASKS):
            app.send_task(foreign_app.LONG, [number])
        until(lambda: server.llen(foreign_app.BEGUN) == FOREIGN_TASKS, FOREIGN_START_SECONDS)
        _age(server)
        stack.inject("foreign app: tasks that run for hours", FOREIGN_TASKS)
        over = time.monotonic() + foreign_app.TASK_SECONDS
        while time.monotonic() < over:
            time.sleep(stack.luck.uniform(1.0, 3.0))
            stack.luck.choice(
                stack.workers
            ).kill()  # a worker hands out what was not acknowledged as it starts, too
            stack.inject("worker: SIGKILL")
        if (begun := server.llen(foreign_app.BEGUN)) != FOREIGN_TASKS:
            stack.broken.append(f"{FOREIGN_TASKS} tasks of another app began {begun} times")
        stack.wait_until_ready(len(stack.workers))
        deaths = [worker.deaths for worker in stack.workers]
        app.control.shutdown()
        stack.inject("foreign app: all workers told to stop")
        time.sleep(5.0)
        if [worker.deaths for worker in stack.workers] != deaths:
            stack.broken.append("another app's control message stopped a worker")


def _age(server: redis.Redis) -> None:
    taken = server.zrange(foreign_app.UNACKED_INDEX, 0, -1)
    if len(taken) != FOREIGN_TASKS:
        raise RuntimeError(f"{len(taken)} messages of the other app are unacknowledged, not {FOREIGN_TASKS}")
    for tag in taken:
        server.zincrby(foreign_app.UNACKED_INDEX, -TWO_HOURS, tag)  # type: ignore[arg-type]
