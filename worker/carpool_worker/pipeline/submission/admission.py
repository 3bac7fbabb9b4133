"""Decides which sealed batches may be posted now: reads the tables, and applies policies/admission.py."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import sqlalchemy as sa

from carpool_worker.database import now, read, write
from carpool_worker.models import Batch
from carpool_worker.policies.admission import Ready, SubmitPolicy, next_up
from carpool_worker.policies.in_doubt import longest_post
from carpool_worker.policies.windows import blocks
from carpool_worker.states import BatchState
from carpool_worker.store.batches import lane_pauses
from carpool_worker.store.batches import queue as batch_queue
from carpool_worker.store.batches import rows as batches
from carpool_worker.units import Milliseconds, after


class Admission(NamedTuple):
    """Permission to post a batch. If its lane is paused, this post is the probe; `probing` is the lane."""

    batch: Batch
    probing: str | None = None


def admit(engine: sa.Engine, batch_id: str, policy: SubmitPolicy) -> Admission | None:
    """Return the permission to post a sealed batch, or None if it may not be posted now.

    If its lane is paused, this claims the lane's probe until the post must be over, so that nobody else posts from it.
    """
    at = now()
    with read(engine) as connection:
        batch = batches.get(connection, batch_id)
        if batch is None or batch.state != BatchState.SEALED or batch.due_at > at:
            return None
        if batch_id not in admitted(connection, at, policy):
            return None
        if batch.lane not in lane_pauses.by_lane(connection):
            return Admission(batch)
    with write(engine) as connection:
        over_at = after(at, longest_post(policy.submit_timeout))
        claimed = lane_pauses.claim_probe(connection, batch.lane, at, over_at)
    return Admission(batch, probing=batch.lane) if claimed else None


def admitted(
    connection: sa.Connection, at: Milliseconds, policy: SubmitPolicy, probing: str | None = None
) -> list[str]:
    """Return the ids of the batches that may be posted now, in order for each account.

    `probing` is a lane whose probe is under way.
    """
    pauses = lane_pauses.by_lane(connection)
    stopped = {lane for lane, pause in pauses.items() if pause.by_operator}
    probes = {lane: pause.probe_at for lane, pause in pauses.items() if lane != probing}
    ready: defaultdict[str | None, list[Ready]] = defaultdict(list)
    for batch in batch_queue.ready(connection, at):
        if batch.lane not in stopped and not blocks(policy.windows, batch.submit_by, at):
            ready[batch.account].append(batch)
    queued = batch_queue.queued(connection)
    return [
        batch_id
        for account, own in ready.items()
        for batch_id in next_up(
            own, probes, queued=queued[account], queue_limit=policy.limit_of(account), at=at
        )
    ]
