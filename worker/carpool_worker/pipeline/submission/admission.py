"""Decides which sealed batches may be posted now: as many as the account's queue has room for, while a window is open.

Those of the highest priority go first, and of these the oldest: low ones may wait for as long as higher ones come.
"""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from carpool_worker.database import now, read, write
from carpool_worker.models import Batch
from carpool_worker.policies.admission import next_up
from carpool_worker.policies.windows import Windows, blocks
from carpool_worker.settings import START_QUEUE_LIMIT
from carpool_worker.states import BatchState
from carpool_worker.store.batches import lane_pauses
from carpool_worker.store.batches import queue as batch_queue
from carpool_worker.store.batches import rows as batches


class Admission(NamedTuple):
    """A batch that may be posted; `probing` names its lane where that is paused and this post asks whether it is."""

    batch: Batch
    probing: str | None = None


def admit(
    engine: sa.Engine, batch_id: str, queue_limit: int, seconds: float, windows: Windows = ()
) -> Admission | None:
    """Take a sealed batch's turn to be posted; None where it has none now.

    The turn to ask for a paused lane is nobody else's for so many seconds.
    """
    at = now()
    with read(engine) as connection:
        batch = batches.get(connection, batch_id)
        if batch is None or batch.state != BatchState.SEALED or batch.due_at > at:
            return None
        if batch_id not in admitted(connection, at, queue_limit, windows=windows):
            return None
        if batch.lane not in lane_pauses.by_lane(connection):
            return Admission(batch)
    with write(engine) as connection:
        claimed = lane_pauses.claim_probe(connection, batch.lane, at, at + int(seconds * 1000))
    return Admission(batch, probing=batch.lane) if claimed else None


def admitted(
    connection: sa.Connection,
    at: int,
    queue_limit: int = START_QUEUE_LIMIT,
    probing: str | None = None,
    windows: Windows = (),
) -> list[str]:
    """Return the ids of the batches that may be posted now, in turn; `probing` has its turn to ask already."""
    pauses = lane_pauses.by_lane(connection)
    stopped = {lane for lane, pause in pauses.items() if pause.by_operator}
    probes = {lane: pause.probe_at for lane, pause in pauses.items() if lane != probing}
    ready = [
        batch
        for batch in batch_queue.ready(connection, at)
        if batch.lane not in stopped and not blocks(windows, batch.submit_by, at)
    ]
    return next_up(ready, probes, batch_queue.queued(connection), queue_limit, at)
