"""The workers that answer, and what each takes: asked by Celery's remote control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from carpool_worker.app import inquirer
from carpool_worker.settings import Settings

ANSWER_SECONDS = 1.0
"""How long they have to answer."""


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker: the queues that it reads, and how many tasks it runs at a time (None: it did not say)."""

    name: str
    queues: Sequence[str]
    concurrency: int | None


def read_workers(settings: Settings) -> list[WorkerView]:
    """Return the workers that answer, by name.

    Raises:
        kombu.exceptions.OperationalError, redis.RedisError: the broker is away.
    """
    with inquirer(settings) as asking:
        asked = asking.control.inspect(timeout=ANSWER_SECONDS)
        queues = asked.active_queues() or {}
        pools = asked.stats() or {} if queues else {}
    return [
        WorkerView(
            name,
            sorted(one["name"] for one in queues[name]),
            pools.get(name, {}).get("pool", {}).get("max-concurrency"),
        )
        for name in sorted(queues)
    ]
