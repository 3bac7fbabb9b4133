"""Drops what has been kept for long enough: params, answers, tries to deliver, cancel commands.

The time since a request's own end counts, not since its batch's. The pruner works in short transactions, so that nobody
waits for it, and in runs of bounded length. Requests, batches and usage are the ledger, which is kept forever.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic

import sqlalchemy as sa

from carpool_worker.database import now, read, write
from carpool_worker.store import retention
from carpool_worker.store.requests.rows import UNBATCHED
from carpool_worker.store.retention import ANSWERS, PARAMS, Content
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import DAY

log = get_logger(__name__)

RUN_SECONDS = 20.0
"""The longest that one run lasts; the next one takes over."""

STEP_ROWS = 1_000
"""Rows deleted in one transaction."""

Step = Callable[[sa.Connection, int, int], int]


def prune(engine: sa.Engine, params_days: float, answers_days: float) -> Counter[str]:
    """Drop what is older than these ages in days; return how many rows of each table were dropped.

    The `carpool.prune` task calls it each minute, one at a time. Every step of at most STEP_ROWS rows is a transaction
    of its own, and a batch is recorded as pruned only when nothing of it is left. So a crash, or the end of the run's
    time, leaves the rest to the next run. Nothing is dropped of a request that has not ended, nor an answer that is
    still to be delivered.
    """
    run, at = PruningRun(engine), now()
    answers_before = at - int(answers_days * DAY)
    run.prune_old("cancellations", retention.prune_cancellations, answers_before)
    run.prune_old("delivery_attempts", retention.prune_attempts, answers_before)
    run.prune_bodies(PARAMS, at - int(params_days * DAY))
    run.prune_bodies(ANSWERS, answers_before)
    if dropped := +run.dropped:
        log.info("pruned", **dropped)
    return run.dropped


@dataclass
class PruningRun:
    """One run of the pruner; `dropped` counts the rows of each table."""

    engine: sa.Engine
    deadline: float = field(default_factory=lambda: monotonic() + RUN_SECONDS)
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return monotonic() > self.deadline

    def prune_bodies(self, content: Content, before: int) -> None:
        """Drop the content of requests that ended before that time."""
        with read(self.engine) as connection:
            batch_ids = [*retention.unpruned(connection, content, before), UNBATCHED]
        # Shuffled, so that batches of which something must stay for now don't keep the others from being pruned.
        for batch_id in random.sample(batch_ids, len(batch_ids)):
            if self.is_over:
                return
            self._prune_batch(content, batch_id, before)

    def prune_old(self, name: str, step: Step, before: int) -> None:
        """Drop the rows from before that time, a step at a time."""
        gone = STEP_ROWS
        while gone == STEP_ROWS and not self.is_over:
            with write(self.engine) as connection:
                gone = step(connection, before, STEP_ROWS)
            self.dropped[name] += gone

    def _prune_batch(self, content: Content, batch_id: str, before: int) -> None:
        with read(self.engine) as connection:
            ids = retention.prunable(connection, content, batch_id, before)
        for step in _steps(ids):
            if self.is_over:
                return
            with write(self.engine) as connection:
                self.dropped[content.bodies.name] += retention.prune(connection, content, step)
        with read(self.engine) as connection:
            is_pruned = retention.is_pruned(connection, content, batch_id)
        if is_pruned:
            with write(self.engine) as connection:
                retention.record_pruned(connection, content, batch_id, now())


def _steps(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + STEP_ROWS] for start in range(0, len(ids), STEP_ROWS))
