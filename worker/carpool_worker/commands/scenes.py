"""The scene around all batches at this moment, out of the tables and the settings."""

from __future__ import annotations

import sqlalchemy as sa

from carpool_worker.admission import admitted
from carpool_worker.database import now
from carpool_worker.lanes import Limits
from carpool_worker.patience import Patience
from carpool_worker.settings import settings
from carpool_worker.store import batch_queue, lane_pauses
from carpool_worker.waiting import Scene
from carpool_worker.windows import next_opening


def scene(connection: sa.Connection) -> Scene:
    """Return what says which batch waits for what."""
    at, one = now(), settings()
    limits = Limits.of(one)
    return Scene(
        at=at,
        limits=limits,
        patience=Patience(one.submit_timeout, one.settle_interval),
        queue_limit=one.queue_limit,
        queued=batch_queue.queued(connection),
        pauses=lane_pauses.by_lane(connection),
        admitted=admitted(connection, at, one.queue_limit, windows=limits.windows),
        warming=batch_queue.warming(connection, at),
        opening=next_opening(limits.windows, at),
    )
