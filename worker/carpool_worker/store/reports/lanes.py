"""Lanes as operators see them: how much of each is open, sealed, and at Anthropic."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from carpool_worker.models import LanePause
from carpool_worker.models.indexes import UNFINISHED
from carpool_worker.models.tables import batches, pauses
from carpool_worker.states import QUEUED_BATCH_STATES, BatchState
from carpool_worker.store.batches import lane_pauses

NEWEST = 100_000
"""Batches: of a hundred lanes that have one a minute, those of the last day and a half are among them at least."""

_ROW = batches.c
_UNFINISHED = (
    sa.select(
        _ROW.lane,
        _ROW.state,
        sa.func.count(),
        sa.func.sum(_ROW.request_count),
        sa.func.min(_ROW.opened_at),
    )
    .where(UNFINISHED)
    .group_by(_ROW.lane, _ROW.state)
)


@dataclass
class LaneCounts:
    """A lane that has unfinished batches or is paused; times are milliseconds since the epoch."""

    lane: str
    pause: LanePause | None = None
    open_requests: int = 0
    opened_at: int | None = None  # of the open batch
    sealed_batches: int = 0
    sealed_requests: int = 0
    out_requests: int = 0  # at Anthropic, or being posted

    def add(self, state: BatchState, count: int, requests: int, opened_at: int) -> None:
        """Add the batches in one state."""
        if state == BatchState.OPEN:
            self.open_requests, self.opened_at = int(requests), opened_at
        elif state == BatchState.SEALED:
            self.sealed_batches, self.sealed_requests = count, int(requests)
        elif state in QUEUED_BATCH_STATES:
            self.out_requests += int(requests)  # PostgreSQL sums into numeric


def active(connection: sa.Connection) -> list[LaneCounts]:
    """Return the lanes that have an unfinished batch or are paused, by name."""
    lanes: dict[str, LaneCounts] = {}
    for lane, pause in lane_pauses.by_lane(connection).items():
        lanes[lane] = LaneCounts(lane, pause)
    for lane, *counts in connection.execute(_UNFINISHED):
        lanes.setdefault(lane, LaneCounts(lane)).add(*counts)
    return [lanes[name] for name in sorted(lanes)]


def every(connection: sa.Connection) -> list[LaneCounts]:
    """Return the same, and the lanes of the newest batches, which have no work now."""
    lanes = {one.lane: one for one in active(connection)}
    newest = sa.select(batches.c.id, batches.c.lane).order_by(batches.c.id.desc()).limit(NEWEST).subquery().c
    for lane in connection.scalars(sa.select(newest.lane).distinct()):
        lanes.setdefault(lane, LaneCounts(lane))
    return [lanes[name] for name in sorted(lanes)]


def is_known(connection: sa.Connection, lane: str) -> bool:
    """Return whether a lane is paused, or had one of the newest batches (an index by lane would mislead SQLite)."""
    newest = sa.select(batches.c.id, batches.c.lane).order_by(batches.c.id.desc()).limit(NEWEST).subquery().c
    batch = sa.select(newest.id).where(newest.lane == lane).limit(1)
    paused = sa.select(pauses.c.lane).where(pauses.c.lane == lane)
    return connection.scalar(batch) is not None or connection.scalar(paused) is not None
