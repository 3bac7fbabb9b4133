"""Examines Celery: every queue needs a worker, and beat must tick."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import redis

from carpool_worker.app import inquirer
from carpool_worker.coordination import heartbeat
from carpool_worker.coordination.backlog import MOST_UNREAD, queues_of
from carpool_worker.coordination.keys import AGENTS, queue
from carpool_worker.doctor.findings import Finding, ok, warning, wrong
from carpool_worker.formatting import age, ago, counted
from carpool_worker.settings import Settings
from carpool_worker.units import SECOND
from carpool_worker.views.alerts import AlertKind

CHECK = "celery"
ANSWER_SECONDS = 2.0
"""How long workers may take to answer which queues they consume."""

SILENT = 30.0
"""Seconds without a tick after which beat counts as dead; it shows a sign of life every second."""


def examine(server: redis.Redis, settings: Settings) -> Iterator[Finding]:
    """Examine each queue, and beat."""
    queues = queues_of(settings.broker)
    unread = {agent: queues.unread(queue(agent)) for agent in AGENTS}
    yield from judge_queues(_consumers(settings), unread)
    yield judge_beat(heartbeat.age(server))


def judge_queues(consumers: Mapping[str, int], unread: Mapping[str, int]) -> Iterator[Finding]:
    """Judge whether queues have workers, and enough; the arguments are workers and unread messages, by agent."""
    idle = [queue(agent) for agent in unread if not consumers.get(agent)]
    if idle:
        what = f"no worker consumes {', '.join(idle)}"
        none = AlertKind.NO_WORKER if len(idle) == len(unread) else None
        yield wrong(CHECK, what, f"carpool worker --queues {','.join(idle)}", none)
    for agent, count in unread.items():
        if count >= MOST_UNREAD:
            what = f"{counted(count, 'message is', 'messages are')} unread in {queue(agent)}"
            yield warning(
                CHECK, what, f"run more workers with --queues {queue(agent)}, or look at their logs"
            )
    if not idle:
        workers = counted(min(consumers.values()), "worker")
        messages = counted(sum(unread.values()), "unread message")
        yield ok(CHECK, f"every queue has at least {workers}; {messages}")


def judge_beat(silence: float | None) -> Finding:
    """Judge whether beat is alive, by the seconds since its last tick (None: it never ticked)."""
    length = age((silence or 0) * SECOND)
    if silence is not None and silence <= SILENT:
        return ok(CHECK, f"beat ticked {ago(silence * SECOND)}")
    since = "has never ticked, or not for a week" if silence is None else f"has been silent for {length}"
    mend = "run carpool beat, once, beside the workers"
    return wrong(CHECK, f"beat {since}: nothing moves", mend, AlertKind.BEAT_SILENT)


def _consumers(settings: Settings) -> dict[str, int]:
    answers: Mapping[str, list[dict[str, Any]]]
    with inquirer(settings) as asking:
        answers = asking.control.inspect(timeout=ANSWER_SECONDS).active_queues() or {}
    worked_on = [one["name"] for queues in answers.values() for one in queues]
    return {agent: worked_on.count(queue(agent)) for agent in AGENTS}
