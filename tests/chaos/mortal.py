"""`carpool` with crash points: `python -m tests.chaos.mortal worker …`; production code knows nothing of them.

There is a point before and after each commit, call of the API, command that takes from Redis, script that Redis runs,
task sent and webhook posted, named by what happens there and by the function of Carpool that does it. The constants
that let a crash go unnoticed for long are shortened, so that a run takes seconds.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

import celery
import httpx2
import redis
from redis.commands.core import Script
from sqlalchemy.engine.default import DefaultDialect
from tests.chaos.points import Points

from carpool_worker import cli
from carpool_worker.app import app
from carpool_worker.coordination import locks
from carpool_worker.pipeline.delivery import courier, in_flight, sending
from carpool_worker.pipeline.delivery.channels.webhook import WebhookChannel
from carpool_worker.pipeline.submission import cache_planner, call_rescuer, fallback, rescuer
from carpool_worker.policies import deliveries, in_doubt, retries
from carpool_worker.processes.parent_death import end_with_parent
from carpool_worker.prompt_cache import savings
from carpool_worker.store.batches import in_doubt as in_doubt_rows

SHORTENED: dict[ModuleType, dict[str, Any]] = {
    locks: {"LOCK_SECONDS": 2.0},
    savings: {"LEAST_WORTH": 1},
    cache_planner: {"WARM_UP_TIMEOUT": 5_000},
    in_doubt: {"CONNECT_TIMEOUT": 1.0},
    rescuer: {"HEADSTART": 1_000},
    retries: {"FIRST_BACKOFF": 0.3, "LONGEST_BACKOFF": 2.0, "FIRST_PROBE": 0.5, "LONGEST_PROBE": 1.0},
    courier: {
        "RUN_SECONDS": 3.0,
        "DRAIN_SECONDS": 1.0,
        "LEASE_MARGIN_SECONDS": 1.0,
    },
    sending: {"PARK_SECONDS": 1.0},
    in_flight: {"PROGRESS_SECONDS": 0.1},
    fallback: {"LEASE": 3.0, "RENEWAL": 0.5, "RUN_SECONDS": 5.0},
    call_rescuer: {"SUSPICION": 1.5},
    deliveries: {"DEFERRED_SECONDS": 1.0},
}
TICK_SECONDS = 1.0
"""Between beat's ticks at most: what a crash interrupted goes on with a tick."""

TRANSPARENT = frozenset(
    {"carpool_worker.database", "carpool_worker.claude.client", "carpool_worker.claude.messages"}
)
"""Modules that every effect passes through; points are named after their callers."""

MAIN = os.getpid()  # the children that it forks keep this
CELERYS_OWN = sys.argv[1:2] == ["worker"]
"""A worker's first process runs none of our tasks; beat's does."""

points = Points(Path(os.environ["CHAOS_POINTS"]))


def at(point: str) -> None:
    """Pass a point, and die there if it is armed."""
    match points.pass_by(point):
        case "child":
            os.kill(os.getpid(), signal.SIGKILL)
        case "worker":
            os.kill(MAIN, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        case "term":
            os.kill(MAIN, signal.SIGTERM)
        case "freeze":
            points.freeze(point, os.getpid())
            os.kill(os.getpid(), signal.SIGSTOP)


def caller() -> str:
    """Return the function of Carpool that is running: 'submitter._intend'."""
    frame = sys._getframe(2)
    while frame:
        module = str(frame.f_globals.get("__name__"))
        if module.startswith("carpool_worker.") and module not in TRANSPARENT:
            return f"{module.rpartition('.')[2]}.{frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def porous(owner: Any, name: str, describe: Callable[..., str]) -> None:
    """Put points before and after a function, wherever Carpool's own code calls it in a worker's child."""
    inner = getattr(owner, name)

    @wraps(inner)
    def outer(*args: Any, **kwargs: Any) -> Any:
        who = caller()
        if not who or (CELERYS_OWN and os.getpid() == MAIN):
            return inner(*args, **kwargs)
        what = f"{describe(*args)} in {who}"
        at(f"before {what}")
        result = inner(*args, **kwargs)
        at(f"after {what}")
        return result

    setattr(owner, name, outer)


def porous_post() -> None:
    """Put points before and after each webhook, which is asynchronous."""
    inner = WebhookChannel.send

    async def send(self: WebhookChannel, outgoing: Any) -> Any:
        at("before a webhook")
        sent = await inner(self, outgoing)
        at("after a webhook")
        return sent

    WebhookChannel.send = send  # type: ignore[method-assign]


def call(transport: object, request: httpx2.Request) -> str:
    """Name a call of the API by its kind, not by its ids."""
    if request.url.path == "/v1/messages":
        return f"{request.method} messages"
    path = request.url.path.removeprefix("/v1/messages/").split("/")
    return " ".join([request.method, *(part for part in path if not part.startswith("msgbatch_"))])


def make_porous() -> None:
    """Put points around every outside effect."""
    porous(DefaultDialect, "do_commit", lambda *_: "commit")
    porous(httpx2.HTTPTransport, "handle_request", call)
    porous(in_doubt_rows, "is_submitting", lambda *_: "look")
    porous(Script, "__call__", lambda *_: "script")
    porous(redis.client.Pipeline, "execute", lambda *_: "pipeline")
    porous(celery.Celery, "send_task", lambda self, name, *_: f"sending {name}")
    for command in ("lpop", "xreadgroup", "xautoclaim", "xgroup_delconsumer", "xadd"):
        porous(redis.Redis, command, lambda *_, command=command: command)
    porous_post()


def stale_names(shortened: Mapping[ModuleType, Mapping[str, Any]]) -> list[str]:
    """Return the constants that their modules no longer have; to set them would shorten nothing."""
    return [
        f"{module.__name__}.{name}"
        for module, constants in shortened.items()
        for name in constants
        if not hasattr(module, name)
    ]


def shorten_waits() -> None:
    """Shorten how long a crash goes unnoticed."""
    if stale := stale_names(SHORTENED):
        raise AttributeError(f"there is no {', '.join(stale)} to shorten")
    for module, constants in SHORTENED.items():
        for name, value in constants.items():
            setattr(module, name, value)
    for entry in app.conf.beat_schedule.values():
        entry["schedule"] = min(entry["schedule"], TICK_SECONDS)


if __name__ == "__main__":
    end_with_parent(
        signal.SIGKILL
    )  # a harness that is killed leaves nothing behind, not even what ends slowly
    shorten_waits()
    make_porous()
    cli.main()
