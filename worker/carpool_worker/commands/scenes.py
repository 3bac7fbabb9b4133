"""The scene around all batches at this moment, out of the tables and the settings."""

from __future__ import annotations

import sqlalchemy as sa

from carpool_worker.database import now
from carpool_worker.pipeline.submission.admission import admitted
from carpool_worker.policies.windows import next_opening
from carpool_worker.settings import settings
from carpool_worker.store.batches import lane_pauses
from carpool_worker.store.batches import queue as batch_queue
from carpool_worker.views.wait_reasons import Scene


def scene(connection: sa.Connection) -> Scene:
    """Return what says which batch waits for what."""
    at, one = now(), settings()
    limits = one.limits
    return Scene(
        at=at,
        limits=limits,
        doubt_policy=one.doubt_policy,
        queue_limit=one.queue_limit,
        queued=batch_queue.queued(connection),
        pauses=lane_pauses.by_lane(connection),
        admitted=admitted(connection, at, one.submit_policy),
        warming=batch_queue.warming(connection, at),
        opening=next_opening(limits.windows, at),
    )
