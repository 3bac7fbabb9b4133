"""Plans, once per sealed batch, which shared prompts are marked for the cache, and makes a warm-up batch if it pays.

The plan is committed before the batch is posted and never changes, so a post after a crash sends the same bytes. A
warm-up is a batch with one request for each marked prefix; the rest of the batch waits until the warm-up has ended, or
has taken too long to be of use. A prefix that an earlier batch of the lane has just used needs no warm-up.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa

from carpool_worker import transition_log
from carpool_worker.database import now, read, write
from carpool_worker.models import Batch
from carpool_worker.money.prices import model_prices
from carpool_worker.policies.limits import BODY_FRAME_BYTES
from carpool_worker.policies.windows import LEAD
from carpool_worker.prompt_cache import prefixes
from carpool_worker.prompt_cache.marking import MARK_BYTES, can_be_marked
from carpool_worker.prompt_cache.savings import CachePlan, SharedPrefix, decide, hits_of
from carpool_worker.setting_values import API_MAX_BYTES
from carpool_worker.store.batches import filling, shared_prompts
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.requests import rows as requests
from carpool_worker.store.requests import segments
from carpool_worker.units import DAY, HOUR, Milliseconds

WARM_UP_TIMEOUT = HOUR
"""The longest that a batch waits for its warm-up: the cache keeps an unread prefix for an hour."""

CACHED_FOR = Milliseconds(1_800_000)
"""How long after a batch's end its prefixes count as cached. They are cached for an hour after their last use, but some
of that has passed when the batch ends, and more passes until the next one runs.
"""

MOST_PREFIXES = 50
"""How many prefixes of a batch are considered, the most common first; the others have few requests each."""

LEARNS_FROM = Milliseconds(7 * DAY)
MOST_LEARNT = 3
"""How often the cache is hit is learnt from the bills of this many batches at most, none older than this. After a week
without any, the assumptions of prompt_cache/savings.py apply again.
"""


def plan_cache(engine: sa.Engine, batch: Batch) -> str | None:
    """Plan the cache for a sealed batch that has no plan yet; return the id of its new warm-up, if it needs one."""
    if batch.marked is not None:
        return None
    with read(engine) as connection:
        decided = fitting(_decide(connection, batch), batch)
    with write(engine) as connection:
        return _commit(connection, batch, decided)


def fitting(decided: CachePlan, batch: Batch) -> CachePlan:
    """Return the part of a plan whose marks fit into Anthropic's limit on a body's size."""
    room = API_MAX_BYTES - BODY_FRAME_BYTES - batch.body_bytes
    marked = []
    for one in decided.marked:
        room -= one.requests * MARK_BYTES
        if room >= 0:
            marked.append(one)
    return CachePlan(tuple(marked), decided.warms_up and bool(marked))


def _decide(connection: sa.Connection, batch: Batch) -> CachePlan:
    groups = shared_prompts.groups_in(connection, batch.id, MOST_PREFIXES)
    cached = shared_prompts.used(connection, batch.lane, now() - CACHED_FOR)
    shared = [found for one in groups if (found := _examined(connection, one, one.prefix in cached))]
    billed = shared_prompts.billed(connection, batch.lane, now() - LEARNS_FROM, MOST_LEARNT, CACHED_FOR)
    hits = hits_of(billed.get(False, (0, 0)), billed.get(True, (0, 0)))
    can_wait = batch.submit_by is None or batch.submit_by > now() + WARM_UP_TIMEOUT + LEAD
    return decide(shared, batch.model, model_prices(batch.model, datetime.now(UTC).date()), hits, can_wait)


def _examined(
    connection: sa.Connection, group: shared_prompts.PromptGroup, is_cached: bool
) -> SharedPrefix | None:
    body = segments.body_of(connection, group.sample)
    if not can_be_marked(body):
        return None
    return SharedPrefix(group.prefix, group.requests, group.sample, prefixes.read(body).length, is_cached)


def _commit(connection: sa.Connection, batch: Batch, decided: CachePlan) -> str | None:
    marked = json.dumps([one.prefix for one in decided.marked])
    if not shared_prompts.plan(connection, batch, marked):
        return None
    if decided.marked:
        transition_log.record(
            connection, "batch marked for the cache", batch=batch.id, prompts=len(decided.marked)
        )
    uncached = [one for one in decided.marked if not one.is_cached]
    return _warm_up(connection, batch.id, uncached) if decided.warms_up else None


def _warm_up(connection: sa.Connection, batch_id: str, uncached: Sequence[SharedPrefix]) -> str | None:
    planned, at = batches.get(connection, batch_id), now()
    ahead = requests.sizes(connection, batch_id, [one.sample for one in uncached])
    if planned is None or not ahead:
        return None
    warm_up, size = filling.transfer(connection, planned, ahead, at)
    filling.remove_requests(connection, batch_id, len(ahead), size)
    shared_prompts.wait_for(connection, batch_id, warm_up, at + WARM_UP_TIMEOUT)
    transition_log.record(connection, "batch waits for its warm-up", batch=batch_id, warm_up=warm_up)
    return warm_up
