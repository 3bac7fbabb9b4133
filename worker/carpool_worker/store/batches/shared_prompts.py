"""SQL about shared prompts: a batch's prefixes, the latest use of the cache, and the cache plan of a batch."""

from __future__ import annotations

import json
from typing import NamedTuple

import sqlalchemy as sa

from carpool_worker.models import Batch
from carpool_worker.models.indexes import MARKED
from carpool_worker.models.tables import batches, requests
from carpool_worker.states import BatchState, RequestState


class PromptGroup(NamedTuple):
    """The requests of a batch that share a prefix; `sample` is the id of the first."""

    prefix: str
    requests: int
    sample: str


def groups_in(connection: sa.Connection, batch_id: str, most: int) -> list[PromptGroup]:
    """Return up to `most` prefixes that several requests of a batch share, the most frequent first."""
    row, number = requests.c, sa.func.count()
    waiting = row.batch_id == batch_id, row.state == RequestState.BATCHED
    found = sa.select(row.prefix, number, sa.func.min(row.segment_id)).where(
        *waiting, row.prefix.is_not(None)
    )
    shared = found.group_by(row.prefix).having(number > 1).order_by(number.desc(), row.prefix).limit(most)
    groups = connection.execute(shared).all()
    earliest = [segment_id for _, _, segment_id in groups]
    members = sa.select(row.prefix, row.id).where(*waiting, row.segment_id.in_(earliest))
    ordered = connection.execute(members.order_by(row.segment_id.desc(), row.position.desc()))
    samples = {one.prefix: one.id for one in ordered}  # the last that is set is the first
    return [PromptGroup(prefix, count, samples[prefix]) for prefix, count, _ in groups]


def used(connection: sa.Connection, lane: str, since: int) -> frozenset[str]:
    """Return the marked prefixes of a lane's batches that ended since then (milliseconds since the epoch)."""
    row = batches.c
    ended = sa.select(row.marked).where(MARKED, row.lane == lane, row.ended_at >= since)
    return frozenset(prefix for marked in connection.scalars(ended) for prefix in json.loads(marked))


def billed(
    connection: sa.Connection, lane: str, since: int, most: int, cached_for: int
) -> dict[bool, tuple[int, int]]:
    """Return the tokens read from the cache and written to it by a lane's newest marked batches.

    These are up to `most` batches opened since then (milliseconds since the epoch), grouped by whether the cache was
    warm: they had a warm-up, or a batch with the same prefixes had ended at most `cached_for` milliseconds before.
    """
    newest = _newest_marked(lane, since, most, cached_for).subquery().c
    tokens = (requests.c.cache_read_tokens, requests.c.cache_write_tokens)
    sums = (sa.func.coalesce(sa.func.sum(column), 0) for column in tokens)
    found = sa.select(newest.warm, *sums).join(requests, requests.c.batch_id == newest.id)
    rows = connection.execute(found.group_by(newest.warm))
    return {bool(warm): (int(read), int(written)) for warm, read, written in rows}


def _newest_marked(lane: str, since: int, most: int, cached_for: int) -> sa.Select[tuple[str, bool]]:
    row, before, waiting = batches.c, batches.alias("before").c, batches.alias("waiting").c
    followed = sa.exists().where(
        before.lane == row.lane,
        before.marked == row.marked,
        before.marked != sa.literal_column("'[]'"),
        before.ended_at.between(row.in_progress_at - cached_for, row.in_progress_at),
    )
    # A warm-up only writes, and would count as a batch without hits.
    is_warm_up = sa.exists().where(waiting.id == row.parent_id, waiting.warm_up_id == row.id)
    return (
        sa.select(row.id, sa.or_(row.warm_up_id.is_not(None), followed).label("warm"))
        .where(MARKED, row.lane == lane, row.ended_at >= since, row.opened_at >= since)
        .where(row.state == BatchState.COMPLETED, ~is_warm_up)
        .order_by(row.opened_at.desc())
        .limit(most)
    )


def plan(connection: sa.Connection, batch: Batch, marked: str) -> bool:
    """Set which prefixes of a sealed batch are marked; return False if it has changed since it was read."""
    row = batches.c
    unplanned = sa.update(batches).where(
        row.id == batch.id,
        row.state == BatchState.SEALED,
        row.submissions == batch.submissions,
        row.request_count == batch.request_count,
        row.marked.is_(None),
    )
    return connection.execute(unplanned.values(marked=marked)).rowcount == 1


def wait_for(connection: sa.Connection, batch_id: str, warm_up_id: str, until: int) -> None:
    """Let a sealed batch wait for its warm-up, at most until then (milliseconds since the epoch)."""
    waiting = sa.update(batches).where(batches.c.id == batch_id, batches.c.state == BatchState.SEALED)
    connection.execute(waiting.values(warm_up_id=warm_up_id, warm_until=until))
