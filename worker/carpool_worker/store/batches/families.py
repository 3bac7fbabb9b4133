"""SQL about a refused batch's relatives: what they were told shows whether a request is at fault, or the lane."""

from __future__ import annotations

import sqlalchemy as sa

from carpool_worker.models import Batch
from carpool_worker.models.tables import batches
from carpool_worker.policies.refusals import Family, Relative
from carpool_worker.states import BatchState
from carpool_worker.store.batches import lane_pauses
from carpool_worker.store.batches.rows import first_id_at, get
from carpool_worker.units import DAY

LONGEST_LIFE = 8 * DAY
"""No batch takes longer from its first request to its end."""


def family(connection: sa.Connection, batch: Batch) -> Family:
    """Return what is known about the lane of a batch that is being refused."""
    pause = lane_pauses.by_lane(connection).get(batch.lane)
    parent = _refused(connection, batch.parent_id)
    before = _refused(connection, parent.parent_id) if parent else None
    ancestors = [one for one in (parent, before) if one]
    since = min((one.finished_at or 0 for one in ancestors), default=None)
    return Family(
        ancestors=[one.last_error or "" for one in ancestors],
        siblings=_siblings(connection, batch) if parent else (),
        accepted=since is not None and _any_accepted(connection, batch.lane, since),
        paused=pause.reason if pause else None,
    )


def _refused(connection: sa.Connection, batch_id: str | None) -> Batch | None:
    batch = get(connection, batch_id) if batch_id else None
    return batch if batch and batch.state == BatchState.REJECTED else None


def _siblings(connection: sa.Connection, batch: Batch) -> list[Relative]:
    row = batches.c
    others = sa.select(row.state, row.claude_id, row.last_error).where(
        row.parent_id == batch.parent_id, row.id > str(batch.parent_id), row.id != batch.id
    )
    return [
        Relative(None if claude_id else error, state not in (BatchState.SEALED, BatchState.SUBMITTING))
        for state, claude_id, error in connection.execute(others)
    ]


def _any_accepted(connection: sa.Connection, lane: str, since: int) -> bool:
    row = batches.c
    lately = row.id >= first_id_at(since - LONGEST_LIFE)
    accepted = sa.select(row.id).where(lately, row.lane == lane, row.in_progress_at >= since)
    return connection.scalar(accepted.limit(1)) is not None
