"""Drops what has been kept for long enough: contents, keys, tries to deliver, cancel commands, the ledger's rows.

Content goes a segment at a time: once the retention of each of its requests is over, counted from the request's own
end. The pruner works in short transactions, so that nobody waits for it, and in runs of bounded length. Batches and
requests without a key are the ledger, which is kept forever unless a setting says for how long; usage always is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

import sqlalchemy as sa

from carpool_worker.database import now, write
from carpool_worker.store import forgetting, retention
from carpool_worker.store.client_batches import rows as client_batches
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import DAY, Milliseconds

log = get_logger(__name__)

RUN_SECONDS = 20.0
"""The longest that one run lasts; the next one takes over."""

STEP_ROWS = 1_000
STEP_SEGMENTS = 20
"""What is deleted in one transaction: rows, or segments, each with up to 200 requests."""

WALK_STEPS = 5
"""Of the walk over old batches in one run, each of up to STEP_ROWS: those that must stay may be any number."""

STRANGERS_DAYS = 29.0
"""How long another program's batch is remembered, so that it is not looked into twice."""

RowsStep = Callable[[sa.Connection, Milliseconds, int], int]
SegmentsStep = Callable[[sa.Connection, Milliseconds, int, int], retention.Pruned]


def prune(
    engine: sa.Engine,
    params_days: float,
    answers_days: float,
    keys_days: float | None = None,
    requests_days: float | None = None,
) -> Counter[str]:
    """Drop what is older than these ages in days; return how many rows of each table were dropped.

    Without `keys_days`, idempotency keys are kept forever, with the requests that have one; without `requests_days`,
    all other requests, and batches. The `carpool.prune` task calls it each minute, one at a time. Each step is a
    transaction of its own, so a crash, or the end of the run's time, leaves the rest to the next.
    Nothing is dropped of a request that has not ended, nor an answer that is still to be delivered.
    """
    run = PruningRun(engine)
    run.prune_rows("cancellations", retention.prune_cancellations, answers_days)
    run.prune_rows("delivery_attempts", retention.prune_attempts, answers_days)
    run.prune_rows("unowned_batches", retention.prune_strangers, STRANGERS_DAYS)
    run.prune_rows("archived_batches", client_batches.archive, answers_days)
    run.prune_segments("params", retention.prune_params, params_days)
    run.prune_segments("answers", retention.prune_answers, answers_days)
    if keys_days is not None:
        run.prune_segments("requests", forgetting.prune_keyed, keys_days)
    if requests_days is not None:
        run.prune_segments("requests", forgetting.prune_unkeyed, requests_days)
        run.prune_batches(requests_days)
        run.prune_rows("client_batches", client_batches.prune, requests_days)
    if dropped := +run.dropped:
        log.info("pruned", **dropped)
    return run.dropped


@dataclass
class PruningRun:
    """One run of the pruner; `dropped` counts the rows of each table."""

    engine: sa.Engine
    at: Milliseconds = field(default_factory=now)
    deadline: float = field(default_factory=lambda: monotonic() + RUN_SECONDS)
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return monotonic() > self.deadline

    def prune_rows(self, name: str, step: RowsStep, days: float) -> None:
        """Drop the rows that are older than that, a step at a time."""
        gone = STEP_ROWS
        while gone == STEP_ROWS and not self.is_over:
            with write(self.engine) as connection:
                gone = step(connection, self._before(days), STEP_ROWS)
            self.dropped[name] += gone

    def prune_segments(self, name: str, step: SegmentsStep, days: float) -> None:
        """Drop what is older than that from one segment after the other, a step at a time."""
        last: int | None = 0
        while last is not None and not self.is_over:
            with write(self.engine) as connection:
                last, gone = step(connection, self._before(days), last, STEP_SEGMENTS)
            self.dropped[name] += gone

    def prune_batches(self, days: float) -> None:
        """Drop the batches that are older than that and empty, among the next ones of the walk over all."""
        for _ in range(WALK_STEPS):
            if self.is_over:
                return
            with write(self.engine) as connection:
                looked_at, gone = forgetting.prune_batches(connection, self._before(days), STEP_ROWS)
            self.dropped["batches"] += gone
            if looked_at < STEP_ROWS:
                return

    def _before(self, days: float) -> Milliseconds:
        return Milliseconds(self.at - int(days * DAY))
