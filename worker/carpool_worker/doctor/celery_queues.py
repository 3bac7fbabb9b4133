"""Looks at Celery: somebody must work on each queue, and beat must tick."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import redis
from celery import Celery

from carpool_worker import formatting
from carpool_worker.coordination import heartbeat
from carpool_worker.coordination.backlog import MOST_UNREAD
from carpool_worker.coordination.keys import AGENTS, queue
from carpool_worker.doctor.findings import Finding, ok, warning, wrong
from carpool_worker.units import SECOND

CHECK = "celery"
ANSWER_SECONDS = 2.0
"""How long workers have to answer who works on what."""

SILENT = 30.0
"""Seconds without a tick after which beat is taken for dead; it ticks each second."""


def examine(server: redis.Redis, url: str) -> Iterator[Finding]:
    """Look at each queue, and at beat."""
    unread = {agent: int(server.llen(queue(agent))) for agent in AGENTS}
    yield from judge_queues(_consumers(url), unread)
    yield judge_beat(heartbeat.age(server))


def judge_queues(consumers: Mapping[str, int], unread: Mapping[str, int]) -> Iterator[Finding]:
    """Say which queues nobody works on, or too few do: by agent, the workers and the messages that lie unread."""
    idle = [queue(agent) for agent in unread if not consumers.get(agent)]
    if idle:
        what = f"nobody works on {', '.join(idle)}"
        yield wrong(CHECK, what, f"carpool worker --queues {','.join(idle)}")
    for agent, count in unread.items():
        if count >= MOST_UNREAD:
            what = f"{count:,} messages lie unread in {queue(agent)}"
            yield warning(
                CHECK, what, f"run more workers with --queues {queue(agent)}, or look at their logs"
            )
    if not idle:
        fewest = min(consumers.values())
        yield ok(CHECK, f"each queue has a worker ({fewest} at least); {sum(unread.values()):,} messages")


def judge_beat(age: float | None) -> Finding:
    """Say whether beat is alive, by the seconds since its last tick (None: there is none)."""
    length = formatting.age((age or 0) * SECOND)
    if age is not None and age <= SILENT:
        return ok(CHECK, f"beat ticked {length} ago")
    since = "has never ticked, or not for a week" if age is None else f"has been silent for {length}"
    return wrong(CHECK, f"beat {since}: nothing moves", "carpool beat; one of it runs beside the workers")


def _consumers(url: str) -> dict[str, int]:
    answers: Mapping[str, list[dict[str, Any]]]
    with Celery(broker=url, set_as_current=False) as asking:
        answers = asking.control.inspect(timeout=ANSWER_SECONDS).active_queues() or {}
    worked_on = [one["name"] for queues in answers.values() for one in queues]
    return {agent: worked_on.count(queue(agent)) for agent in AGENTS}
