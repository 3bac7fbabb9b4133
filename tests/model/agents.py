"""The agents as the model runs them: in any order, as often as it likes, on stale ids too, interrupted anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import redis
import sqlalchemy as sa
from tests.model.courier import Courier
from tests.model.interruptions import (
    Fuse,
    PorousClaude,
    PorousInbox,
    crash,
    ended_early,
    refuse,
)

from carpool_worker.database import now, read, write
from carpool_worker.models import tables
from carpool_worker.pipeline.batching import aggregator, budgeter, stager
from carpool_worker.pipeline.collection import collector, poller
from carpool_worker.pipeline.collection.replies import Replies
from carpool_worker.pipeline.delivery.channels import reply
from carpool_worker.pipeline.submission import rescuer, submitter
from carpool_worker.pipeline.submission.admission import admitted
from carpool_worker.policies.admission import SubmitPolicy
from carpool_worker.policies.budgets import Budgets
from carpool_worker.policies.in_doubt import DoubtPolicy
from carpool_worker.policies.limits import Limits
from carpool_worker.policies.retries import CollectPolicy
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.deliveries import rows as deliveries
from carpool_worker.units import Milliseconds

LIMITS = Limits(count=5, body_bytes=800, seconds=60)
DOUBT_POLICY = DoubtPolicy(submit_timeout=60, settle_interval=600)
QUEUE_LIMIT = 8
SUBMIT_POLICY = SubmitPolicy(submit_timeout=60, queue_limit=QUEUE_LIMIT, cache_shared_prompts=True)
"""Requests at Anthropic: a full batch and a bit."""
MAX_ATTEMPTS = 3
COLLECT_POLICY = CollectPolicy(MAX_ATTEMPTS, retry_interval=60.0, settle_interval=60.0)

MOMENT = 6_000
"""Milliseconds: longer than the rescuer's head start for posts, far shorter than it searches."""
HOURS = 3 * 3_600_000
"""Milliseconds: longer than any wait of an agent."""

CLOCKS = {
    "batches": (
        "due_at",
        "opened_at",
        "submitting_at",
        "in_doubt_at",
        "search_started_at",
        "warm_until",
        "incomplete_at",
    ),
    "requests": ("retry_at",),
    "deliveries": ("due_at",),
    "parked_receivers": ("parked_until",),
    "lane_pauses": ("paused_at", "probe_at"),
}


CRASH, REFUSAL = "crash", "refusal"
MISHAPS = {CRASH: crash, REFUSAL: refuse}


class Interruption(NamedTuple):
    """After so many points `by` comes in between: a crash, or another agent; again after `again` more.

    A refusal is that of the next commit: it is rolled back, and ends the agent.
    """

    after: int
    by: str
    again: int | None = None


@dataclass
class Agents:
    """All agents on one database, one Redis and one API."""

    engine: sa.Engine
    server: redis.Redis
    claude: PorousClaude
    fuse: Fuse
    courier: Courier
    budgets: Budgets = field(default_factory=dict)

    @property
    def by_name(self) -> Mapping[str, Callable[[], None]]:
        """All that may run, or come in between."""
        return {name: partial(agent, self) for name, agent in AGENTS.items()}

    def aggregate(self) -> None:
        self._aggregate(claim_interval=30)

    def aggregate_for_the_dead(self) -> None:
        self._aggregate(claim_interval=0)

    def submit(self) -> None:
        self._submit(self._ids(lambda connection, at: admitted(connection, at, SUBMIT_POLICY)))

    def submit_anything(self) -> None:
        self._submit(self._all_ids())

    def rescue(self) -> None:
        rescuer.rescue(self.engine, [self.claude], DOUBT_POLICY)

    def rescue_a_moment_later(self) -> None:
        self._turn_back({"batches": CLOCKS["batches"]}, MOMENT)
        self.rescue()

    def poll(self) -> None:
        poller.poll(self.engine, [self.claude])

    def collect(self) -> None:
        self._collect(self._ids(batches.due_to_collect))

    def collect_anything(self) -> None:
        self._collect(self._all_ids())

    def stage(self) -> None:
        budgeter.release(self.engine, self.budgets)
        stager.stage(self.engine, LIMITS)
        with write(self.engine) as connection:
            deliveries.stage(connection, now())
            deliveries.rescue(connection, now())

    def deliver(self) -> None:
        self.courier.deliver()

    def deliver_in_vain(self) -> None:
        self.courier.deliver_in_vain()

    def deliver_and_hang(self) -> None:
        self.courier.deliver_and_hang()

    def record_late(self) -> None:
        self.courier.record_late()

    def hours_pass(self) -> None:
        self._turn_back(CLOCKS, HOURS)

    def run(self, names: Iterable[str], interruption: Interruption | None) -> None:
        """Run these agents one after another; a mishap ends one, and the next runs all the same."""
        if interruption:
            after, by, again = interruption
            self.fuse.light(after, MISHAPS.get(by) or self.by_name[by], again)
        try:
            for name in names:
                with ended_early():
                    self.by_name[name]()
        finally:
            self.fuse.put_out()

    def _aggregate(self, claim_interval: float) -> None:
        inbox = PorousInbox(self.server, claim_interval)
        inbox.fuse = self.fuse
        aggregator.aggregate(self.engine, inbox, LIMITS, lambda _: self.fuse.burn(), self.budgets)

    def _submit(self, ids: Iterable[str]) -> None:
        for batch_id in ids:
            submitter.submit(self.engine, self.claude, batch_id, SUBMIT_POLICY)

    def _collect(self, ids: Iterable[str]) -> None:
        for batch_id in ids:
            collector.collect(self.engine, self.claude, batch_id, COLLECT_POLICY, self._announce)

    def _announce(self, ids: Sequence[str], replies: Replies) -> None:
        self.fuse.burn()
        reply.push_packed(self.server, replies)

    def _turn_back(self, clocks: Mapping[str, Sequence[str]], milliseconds: int) -> None:
        with write(self.engine) as connection:
            for table, columns in clocks.items():
                back = ", ".join(f"{column} = {column} - {milliseconds}" for column in columns)
                connection.execute(sa.text(f"UPDATE {table} SET {back}"))

    def _ids(self, due: Callable[[sa.Connection, Milliseconds], list[str]]) -> list[str]:
        with read(self.engine) as connection:
            return due(connection, now())

    def _all_ids(self) -> list[str]:
        with read(self.engine) as connection:
            return list(connection.scalars(sa.select(tables.batches.c.id)))


AGENTS: dict[str, Callable[[Agents], None]] = {
    name: agent
    for name, agent in vars(Agents).items()
    if callable(agent) and not name.startswith("_") and name not in ("run", "hours_pass")
}
ROUND = ("aggregate_for_the_dead", "submit", "rescue", "poll", "collect", "stage", "deliver")
RIVALS = (
    "aggregate_for_the_dead",
    "submit_anything",
    "rescue_a_moment_later",
    "poll",
    "collect_anything",
    "stage",
    "deliver",
)
"""What comes in between other agents, themselves included."""
