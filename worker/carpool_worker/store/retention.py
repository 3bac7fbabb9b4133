"""SQL about pruning: params and answers whose retention is over, and old tries and cancel commands.

Content goes a segment at a time, once the retention of all in it is over. The rows of requests, segments and batches
are the ledger: see forgetting.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool_worker import database
from carpool_worker.models.indexes import STRANGE
from carpool_worker.models.tables import (
    answers,
    attempts,
    cancellations,
    params,
    requests,
    segments,
    unowned,
)
from carpool_worker.store.deliveries import coverage
from carpool_worker.store.deliveries.dead_letters import REPLAY_LOCK
from carpool_worker.store.requests.rows import among
from carpool_worker.store.requests.segments import first_id, split
from carpool_worker.units import Milliseconds


class Pruned(NamedTuple):
    """What one step did: the last segment that it looked at (None: there were no more), and how many rows went."""

    last: int | None
    dropped: int


NOTHING = Pruned(None, 0)


class _Ends(NamedTuple):
    """How many requests of a segment have not ended, and when the last of the others did."""

    unended: int
    last: int


Members = Mapping[int, Sequence[str]]
"""The ids of the requests of some segments, by the segment's id."""


def prune_params(connection: sa.Connection, before: Milliseconds, after: int, limit: int) -> Pruned:
    """Delete the params of segments all of whose requests ended before then; looks at up to `limit` segments.

    It begins after the segment `after`. A segment is looked at again only once its retention may be over.
    """
    row = segments.c
    due = sa.select(row.id, row.ids).join_from(params, segments, row.id == params.c.id)
    due = due.where(params.c.id > after, params.c.id < first_id(before), row.ends_after <= before)
    members = members_of(connection, due.order_by(params.c.id).limit(limit))
    if not members:
        return NOTHING
    old = all_ended(connection, members, before)
    gone = connection.execute(sa.delete(params).where(params.c.id.in_(old)))
    return Pruned(last_of(members, limit), gone.rowcount)


def prune_answers(connection: sa.Connection, before: Milliseconds, after: int, limit: int) -> Pruned:
    """Delete the answers stored before then, except segments of which one is still to be delivered.

    They are stored when their requests end. The answer of a request that was retried since is no longer in them.
    """
    database.lock(connection, REPLAY_LOCK)
    row = answers.c
    old = sa.select(row.id).where(row.id > after, row.id < first_id(before))
    found = list(connection.scalars(old.order_by(row.id).limit(limit)))
    awaited = coverage.awaiting_delivery(connection, found)
    gone = [segment_id for segment_id in found if segment_id not in awaited]
    if not gone:
        return Pruned(last_of(found, limit), 0)
    coverage.prune(connection, gone)
    connection.execute(sa.delete(answers).where(row.id.in_(gone)))
    return Pruned(last_of(found, limit), len(gone))


def prune_attempts(connection: sa.Connection, before: Milliseconds, limit: int) -> int:
    """Delete up to `limit` tries to deliver that were made before then, oldest first; return how many."""
    oldest = sa.select(attempts.c.id).order_by(attempts.c.id).limit(limit)  # ids ascend with time
    gone = sa.delete(attempts).where(attempts.c.id.in_(oldest.scalar_subquery()), attempts.c.at <= before)
    return connection.execute(gone).rowcount


def prune_cancellations(connection: sa.Connection, before: Milliseconds, limit: int) -> int:
    """Delete up to `limit` cancel commands from before then; return how many."""
    key = sa.tuple_(cancellations.c.request_id, cancellations.c.client)
    old = sa.select(*key.clauses).where(cancellations.c.requested_at <= before).limit(limit)
    return connection.execute(sa.delete(cancellations).where(key.in_(old))).rowcount


def prune_strangers(connection: sa.Connection, before: Milliseconds, limit: int) -> int:
    """Delete up to `limit` batches of other programs that were found before then; return how many."""
    key = unowned.c.claude_id
    old = sa.select(key).where(STRANGE, unowned.c.found_at <= before).limit(limit)
    return connection.execute(sa.delete(unowned).where(key.in_(old))).rowcount


def members_of(connection: sa.Connection, query: sa.Select[Any]) -> Members:
    """Return the requests of the segments that a query of (id, ids) finds."""
    return {segment_id: split(ids) for segment_id, ids in connection.execute(query)}


def all_ended(connection: sa.Connection, members: Members, before: Milliseconds) -> Collection[int]:
    """Return those of these segments whose requests all ended before then; note of the others when they may have."""
    ends, now = _ends(connection, members), database.now()
    # A request that has not ended will at the earliest now, so its segment is looked at again after a whole retention.
    latest = {one: now if ends[one].unended else ends[one].last for one in members if one in ends}
    later = [{"segment": one, "ends_after": at} for one, at in latest.items() if at > before]
    if later:
        connection.execute(sa.update(segments).where(segments.c.id == sa.bindparam("segment")), later)
    return [one for one in members if latest.get(one, 0) <= before]


def _ends(connection: sa.Connection, members: Members) -> dict[int, _Ends]:
    row = requests.c
    ended = sa.func.count(row.finished_at)
    each = sa.select(row.segment_id, sa.func.count() - ended, sa.func.max(row.finished_at))
    each = each.where(among(connection, all_of(members))).group_by(row.segment_id)
    return {one: _Ends(unended, last or 0) for one, unended, last in connection.execute(each)}


def last_of(looked_at: Collection[int], limit: int) -> int | None:
    """Return the last of the segments that a step looked at, or None if there were no more than these."""
    return max(looked_at) if len(looked_at) == limit else None


def all_of(members: Members) -> Iterable[str]:
    """Return the ids of all requests of these segments."""
    return (id_ for ids in members.values() for id_ in ids)
