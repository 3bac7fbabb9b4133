"""Lanes: those that have work or are paused, and those that are idle."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from carpool_worker.store.reports import lanes
from carpool_worker.store.reports.lanes import LaneCounts
from carpool_worker.views.encoding import Moment


@dataclass(frozen=True, kw_only=True)
class LaneView:
    """A lane: how much of it is open, sealed and out (at Anthropic, or perhaps there), and whether it is paused."""

    lane: str
    paused: bool
    paused_by_operator: bool
    reason: str | None  # why it is paused
    paused_at: Moment | None
    open_requests: int
    opened_at: Moment | None  # of its open batch
    sealed_batches: int
    sealed_requests: int
    out_requests: int


def active(connection: sa.Connection) -> list[LaneView]:
    """Return the lanes with a batch that is not finished, and those that are paused, in order of their names."""
    return [_view(counts) for counts in lanes.active(connection)]


def every(connection: sa.Connection) -> list[LaneView]:
    """Return the same, and the lanes that had batches lately and have none now."""
    return [_view(counts) for counts in lanes.every(connection)]


def _view(counts: LaneCounts) -> LaneView:
    pause = counts.pause
    return LaneView(
        lane=counts.lane,
        paused=pause is not None,
        paused_by_operator=bool(pause and pause.is_by_hand),
        reason=pause.reason if pause else None,
        paused_at=pause.paused_at if pause else None,
        open_requests=counts.open_requests,
        opened_at=counts.opened_at,
        sealed_batches=counts.sealed_batches,
        sealed_requests=counts.sealed_requests,
        out_requests=counts.out_requests,
    )
