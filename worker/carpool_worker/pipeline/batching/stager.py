"""Puts retryable requests that are due back into the open batch of their lane."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence

import sqlalchemy as sa

from carpool_worker.database import now, write
from carpool_worker.pipeline.batching.lanes import Filled, Lane, fill
from carpool_worker.policies.limits import Limits
from carpool_worker.store.requests import staging
from carpool_worker.store.requests.staging import DueRequest

CHUNK_REQUESTS = 2_000
"""Requests staged in one transaction."""


def stage(engine: sa.Engine, limits: Limits) -> Filled:
    """Stage all retryable requests that are due; return the batches that were opened and sealed.

    The `carpool.stage` task calls it when something is due, one at a time. Each chunk is one transaction: requests
    become `batched`, and their batches' counters grow. A crash leaves the rest due for the next tick.
    """
    staged = Filled()
    while True:
        with write(engine) as connection:
            due = staging.due_to_stage(connection, now(), CHUNK_REQUESTS)
            _stage(connection, due, limits, staged)
        if len(due) < CHUNK_REQUESTS:
            return staged


def _stage(connection: sa.Connection, due: Sequence[DueRequest], limits: Limits, staged: Filled) -> None:
    lanes: defaultdict[str, list[DueRequest]] = defaultdict(list)
    for one in due:
        lanes[one.lane].append(one)
    at = now()
    for name in sorted(lanes):
        first = lanes[name][0]
        lane = Lane(name, first.model, json.loads(first.headers), account=first.account)
        for batch_id, part in fill(connection, lane, lanes[name], limits, at, staged):
            staging.stage(connection, batch_id, [one.id for one in part], at)
