"""Takes requests out of the batches that they share with others, where their client would wait for its turn otherwise.

Only while there is not room for all. What waits is in batches as it came: a small client's requests are among a big
one's, in a sealed batch or in the open one. policies/fairness.py decides whose turn it is, and what has to be moved.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import sqlalchemy as sa

from carpool_worker.database import now, read, write
from carpool_worker.models import Batch
from carpool_worker.pipeline.batching.lanes import earliest
from carpool_worker.pipeline.batching.leaving import leave
from carpool_worker.pipeline.submission.admission import lines
from carpool_worker.policies.admission import SubmitPolicy
from carpool_worker.policies.fairness import Gathering, Unsent, gathering
from carpool_worker.policies.limits import before_edge, fitting, item_bytes
from carpool_worker.policies.windows import is_open
from carpool_worker.states import BatchState
from carpool_worker.store.batches import filling, lane_pauses, transitions, turns
from carpool_worker.store.batches import queue as batch_queue
from carpool_worker.store.batches import unsent as unsent_rows
from carpool_worker.store.batches.turns import Movable
from carpool_worker.store.requests import rows as requests
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import Milliseconds

log = get_logger(__name__)


@dataclass(frozen=True)
class Gathered:
    """The sealed batch that requests were gathered in, and the batches that this left empty."""

    batch_id: str
    dissolved: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Source:
    """A locked batch, and those of its requests that leave it."""

    batch: Batch
    unsent: Unsent
    moved: list[Movable]


def count_clients(engine: sa.Engine, policy: SubmitPolicy) -> None:
    """Count of which clients the sealed batches are that there is no room for: once each, in a transaction each.

    The `carpool.stage` task calls it, and the submitter. What has not been counted is counted again by all who ask.
    """
    with read(engine) as connection:
        pressed = [line for line in lines(connection, now(), policy) if line.is_pressed]
    for batch in (one for line in pressed for one in line.ready if turns.counted(one) is None):
        with write(engine) as connection:
            locked = unsent_rows.lock(connection, [batch.id]).get(batch.id)
            if locked and locked.state == BatchState.SEALED:
                shares = turns.count(connection, batch.id)
                turns.keep(connection, batch.id, locked.request_count, shares)


def gather_stuck(engine: sa.Engine, policy: SubmitPolicy) -> list[Gathered]:
    """Gather requests where the batch whose turn it is has no room, but those of the client whose turn it is have.

    The `carpool.stage` task calls it each second.
    """
    count_clients(engine, policy)
    with read(engine) as connection:
        crowded = [line for line in lines(connection, now(), policy) if line.is_crowded and line.room > 0]
    found = (_gather(engine, line.account, policy, with_open=False) for line in crowded)
    return [one for one in found if one]


def gather(engine: sa.Engine, batch: Batch, policy: SubmitPolicy) -> Gathered | None:
    """Put requests of the clients whose turn is before a batch is posted into one of their own; None: there are none.

    The submitter calls it. It is one transaction: a batch that loses requests meanwhile is not posted as it was read.
    """
    count_clients(engine, policy)
    with read(engine) as connection:
        if turns.is_gathered(connection, batch.id):
            return None
    return _gather(engine, batch.account, policy, with_open=True)


def _gather(
    engine: sa.Engine, account: str | None, policy: SubmitPolicy, *, with_open: bool
) -> Gathered | None:
    with read(engine) as connection:
        if _plan(connection, account, policy, with_open) is None:
            return None
    with write(engine) as connection:
        batch_queue.lock_queue(connection)
        plan = _plan(connection, account, policy, with_open)
        return _act(connection, plan, policy, now()) if plan else None


def _plan(
    connection: sa.Connection, account: str | None, policy: SubmitPolicy, with_open: bool
) -> Gathering | None:
    """Return what has to be gathered; `with_open` requests in open batches have their turn, too."""
    found = (line for line in lines(connection, now(), policy) if line.account == account)
    line = next((line for line in found if line.is_crowded and line.room > 0), None)
    if line is None:
        return None
    unsent = [turns.unsent(connection, batch) for batch in line.ready]
    if with_open and is_open(policy.windows, now()):
        paused = lane_pauses.by_lane(connection)
        unsealed = (one for one in turns.open_batches(connection, account) if one.lane not in paused)
        unsent += [turns.unsent(connection, one, is_open=True) for one in unsealed]
    if len({client for one in unsent for client in one.shares}) < 2:
        return None
    full = min(policy.full.count, line.queue_limit)
    return gathering(unsent, turns.load(connection, account, policy.weights), full, line.room)


def _act(
    connection: sa.Connection, plan: Gathering, policy: SubmitPolicy, at: Milliseconds
) -> Gathered | None:
    sources = _take(connection, plan, policy)
    if not sources:
        return None
    first = sources[0]
    moved = [one for source in sources for one in source.moved]
    shares = turns.shares_of(moved)
    if len(sources) == 1 and len(moved) == first.batch.request_count:
        transitions.seal(connection, first.batch.id, at)
        turns.keep(connection, first.batch.id, len(moved), shares, is_gathered=True)
        return Gathered(first.batch.id)
    size = sum(item_bytes(one.params_bytes) for one in moved)
    own = {
        "priority": max(one.priority for one in moved),
        "submit_by": earliest(one.submit_by for one in moved),
        "deadline": earliest(one.due_by for one in moved),
    }
    successor = filling.insert_sealed(connection, first.batch, len(moved), size, at, **own)
    requests.transfer(connection, [one.id for one in moved], successor)
    turns.keep(connection, successor, len(moved), shares, is_gathered=True)
    why = f"its requests went on in batch {successor}"
    empty = [source.batch.id for source in sources if not _leave(connection, source, why)]
    log.info("requests gathered for a turn", batch=successor, requests=len(moved), clients=len(shares))
    return Gathered(successor, empty)


def _take(connection: sa.Connection, plan: Gathering, policy: SubmitPolicy) -> list[_Source]:
    """Lock the batches and the requests that are to be moved: as many as a batch takes, to the edge of a segment."""
    locked = unsent_rows.lock(connection, [one.id for one in plan.sources])
    sources: list[_Source] = []
    left = plan.most
    for one in plan.sources:
        if left and (batch := locked.get(one.id)):
            moved = turns.requests_of(connection, one.id, plan.clients, left)
            sources.append(_Source(batch, one, moved))
            left -= len(moved)
    moved = [one for source in sources for one in source.moved]
    sizes, segments = [one.params_bytes for one in moved], [one.segment_id for one in moved]
    limits = replace(policy.full, count=plan.most)
    keep = before_edge(segments, sizes, fitting(sizes, 0, 0, limits), 0, limits)
    for source in sources:
        del source.moved[max(0, keep) :]
        keep -= len(source.moved)
    return [source for source in sources if source.moved]


def _leave(connection: sa.Connection, source: _Source, why: str) -> int:
    """Subtract the requests that leave a batch; return how many it still has."""
    left = leave(connection, source.batch, [one.params_bytes for one in source.moved], why)
    if left and source.batch.state == BatchState.SEALED:
        turns.keep(connection, source.batch.id, left, turns.without(source.unsent.shares, source.moved))
    return left
