"""Decides which sealed batches may be posted now: reads the tables, and applies policies/admission.py."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from carpool_worker.database import now, read, write
from carpool_worker.models import Batch
from carpool_worker.policies.admission import Line, Ready, SubmitPolicy, fitting, let_pass
from carpool_worker.policies.fairness import Weights, in_turns
from carpool_worker.policies.in_doubt import longest_post
from carpool_worker.policies.windows import blocks
from carpool_worker.states import BatchState
from carpool_worker.store.batches import lane_pauses, turns
from carpool_worker.store.batches import queue as batch_queue
from carpool_worker.store.batches import rows as batches
from carpool_worker.units import Milliseconds, after


class Admission(NamedTuple):
    """Permission to post a batch. If its lane is paused, this post is the probe; `probing` is the lane."""

    batch: Batch
    probing: str | None = None
    is_crowded: bool = False  # whether there is not room for all


def admit(engine: sa.Engine, batch_id: str, policy: SubmitPolicy) -> Admission | None:
    """Return the permission to post a sealed batch, or None if it may not be posted now.

    If its lane is paused, this claims the lane's probe until the post must be over, so that nobody else posts from it.
    """
    at = now()
    with read(engine) as connection:
        batch = batches.get(connection, batch_id)
        if batch is None or batch.state != BatchState.SEALED or batch.due_at > at:
            return None
        line = next((one for one in lines(connection, at, policy) if one.account == batch.account), None)
        if line is None or batch_id not in _going(connection, line, policy):
            return None
        if batch.lane not in lane_pauses.by_lane(connection):
            return Admission(batch, is_crowded=line.is_crowded)
    with write(engine) as connection:
        over_at = after(at, longest_post(policy.submit_timeout))
        claimed = lane_pauses.claim_probe(connection, batch.lane, at, over_at)
    return Admission(batch, batch.lane, line.is_crowded) if claimed else None


def admitted(
    connection: sa.Connection, at: Milliseconds, policy: SubmitPolicy, probing: str | None = None
) -> list[str]:
    """Return the ids of the batches that may be posted now, in order for each account.

    `probing` is a lane whose probe is under way.
    """
    return [
        batch_id
        for line in lines(connection, at, policy, probing)
        for batch_id in _going(connection, line, policy)
    ]


def _going(connection: sa.Connection, line: Line, policy: SubmitPolicy) -> list[str]:
    if line.is_stuck:
        return []
    order = in_order(connection, line, policy.weights)
    return [batch.id for batch in fitting(order, line.room, line.queue_limit)]


def lines(
    connection: sa.Connection, at: Milliseconds, policy: SubmitPolicy, probing: str | None = None
) -> list[Line]:
    """Return, for each account, what could be posted now if there were room, the highest priorities first."""
    pauses = lane_pauses.by_lane(connection)
    stopped = {lane for lane, pause in pauses.items() if pause.by_operator}
    probes = {lane: pause.probe_at for lane, pause in pauses.items() if lane != probing}
    ready: defaultdict[str | None, list[Ready]] = defaultdict(list)
    for batch in batch_queue.ready(connection, at):
        if batch.lane not in stopped and not blocks(policy.windows, batch.submit_by, at):
            ready[batch.account].append(batch)
    queued = batch_queue.queued(connection)
    limits = {account: policy.limit_of(account) for account in ready}
    return [
        Line(account, let_pass(own, probes, at), limits[account] - queued[account], limits[account])
        for account, own in ready.items()
    ]


def in_order(connection: sa.Connection, line: Line, weights: Weights) -> Sequence[Ready]:
    """Return what could be posted in the order in which it goes: in turns of the clients, where they are pressed."""
    if not line.is_pressed or len(line.ready) < 2:
        return line.ready
    return [one for one, _ in in_turns_of_clients(connection, line, weights)]


def in_turns_of_clients(
    connection: sa.Connection, line: Line, weights: Weights
) -> list[tuple[Ready, str | None]]:
    """Return what could be posted in the order of the turns, with the client whose turn each batch is."""
    by_id = {batch.id: batch for batch in line.ready}
    unsent = [turns.unsent(connection, batch) for batch in line.ready]
    order = in_turns(unsent, turns.load(connection, line.account, weights))
    found: list[tuple[Ready, str | None]] = [(by_id.pop(turn.batch.id), turn.client) for turn in order]
    return found + [(batch, None) for batch in by_id.values()]  # all of their requests were just canceled
