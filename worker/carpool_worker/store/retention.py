"""SQL about pruning: params, answers and idempotency keys whose retention is over, and old tries and cancel commands.

Content goes a segment at a time, once the retention of all in it is over. The rows of requests without a key, of
segments, batches and usage are the ledger, and stay.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool.contract import is_keyed
from carpool_worker import database
from carpool_worker.models.indexes import KEYED, STRANGE
from carpool_worker.models.tables import (
    answers,
    attempts,
    cancellations,
    params,
    requests,
    segments,
    tags,
    unowned,
)
from carpool_worker.store.deliveries import coverage
from carpool_worker.store.deliveries.dead_letters import REPLAY_LOCK
from carpool_worker.store.requests.rows import among
from carpool_worker.store.requests.segments import first_id, joined, split
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
    members = _members(connection, due.order_by(params.c.id).limit(limit))
    if not members:
        return NOTHING
    ended = _ended(connection, members, before)
    gone = connection.execute(sa.delete(params).where(params.c.id.in_(ended)))
    return Pruned(_last(members, limit), gone.rowcount)


def prune_answers(connection: sa.Connection, before: Milliseconds, after: int, limit: int) -> Pruned:
    """Delete the answers stored before then, except segments of which one is still to be delivered.

    They are stored when their requests end. The answer of a request that was retried since is no longer in them.
    """
    database.lock(connection, REPLAY_LOCK)
    row = answers.c
    awaited = sa.case((coverage.awaits_delivery(row.id), 1), else_=0)
    old = sa.select(row.id, awaited).where(row.id > after, row.id < first_id(before))
    found = dict(connection.execute(old.order_by(row.id).limit(limit)).all())
    gone = [segment_id for segment_id, is_awaited in found.items() if not is_awaited]
    if not gone:
        return Pruned(_last(found, limit), 0)
    coverage.prune(connection, gone)
    connection.execute(sa.delete(answers).where(row.id.in_(gone)))
    return Pruned(_last(found, limit), len(gone))


def prune_keys(connection: sa.Connection, before: Milliseconds, after: int, limit: int) -> Pruned:
    """Delete requests with an idempotency key, of segments whose requests all ended before then, with all about them.

    From then on the key is a new request. Those with params or an answer that is kept, or a delivery under way, stay.
    """
    row = segments.c
    kept = sa.exists().where(params.c.id == row.id)
    due = sa.select(row.id, row.ids).where(KEYED, row.id > after, row.id < first_id(before))
    due = due.where(row.ends_after <= before, ~kept)
    members = _members(connection, due.order_by(row.id).limit(limit))
    if not members:
        return NOTHING
    ended = _ended(connection, members, before)
    blocked = _awaited(connection, members) | _answered(connection, members)
    free = {one: members[one] for one in ended if blocked.isdisjoint(members[one])}
    keyed = [id_ for ids in free.values() for id_ in ids if is_keyed(id_)]
    _forget_members(connection, free)
    return Pruned(_last(members, limit), _forget(connection, keyed))


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


def _members(connection: sa.Connection, query: sa.Select[Any]) -> Members:
    return {segment_id: split(ids) for segment_id, ids in connection.execute(query)}


def _ended(connection: sa.Connection, members: Members, before: Milliseconds) -> Collection[int]:
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
    each = each.where(among(connection, _all(members))).group_by(row.segment_id)
    return {one: _Ends(unended, last or 0) for one, unended, last in connection.execute(each)}


def _awaited(connection: sa.Connection, members: Members) -> set[str]:
    """Return the requests of these segments whose answers are still to be delivered."""
    under_way = sa.select(requests.c.id).where(coverage.request_awaits_delivery())
    return set(connection.scalars(under_way.where(among(connection, _all(members)))))


def _answered(connection: sa.Connection, members: Members) -> set[str]:
    """Return the requests of these segments whose answers are kept."""
    kept = sa.select(requests.c.id).join(answers, answers.c.id == requests.c.answer_id)
    return set(connection.scalars(kept.where(among(connection, _all(members)))))


def _forget_members(connection: sa.Connection, members: Members) -> None:
    """Take the requests with a key out of these segments, and delete those that have no others."""
    row = segments.c
    left = {one: [id_ for id_ in ids if not is_keyed(id_)] for one, ids in members.items()}
    rest = [
        {"segment": one, "ids": joined(ids), "requests": len(ids), "keyed": 0}
        for one, ids in left.items()
        if ids
    ]
    if rest:
        connection.execute(sa.update(segments).where(row.id == sa.bindparam("segment")), rest)
    connection.execute(sa.delete(segments).where(row.id.in_([one for one, ids in left.items() if not ids])))


def _forget(connection: sa.Connection, ids: Sequence[str]) -> int:
    """Delete these requests with all that would be taken for that of a new request with the same id."""
    coverage.forget(connection, ids)
    for column in (attempts.c.request_id, tags.c.request_id):
        connection.execute(sa.delete(column.table).where(among(connection, ids, column)))
    connection.execute(sa.delete(cancellations).where(cancellations.c.request_id.in_(ids)))
    return connection.execute(sa.delete(requests).where(among(connection, ids))).rowcount


def _last(looked_at: Collection[int], limit: int) -> int | None:
    return max(looked_at) if len(looked_at) == limit else None


def _all(members: Members) -> Iterable[str]:
    return (id_ for ids in members.values() for id_ in ids)
