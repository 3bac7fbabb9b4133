"""SQL that prunes the ledger: rows of requests, with all about them, and of batches that have no requests left.

Money does not change by it: usage is summed by day, and what finished batches say is in their totals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from carpool.contract import is_keyed
from carpool_worker.models.indexes import KEYED, UNKEYED
from carpool_worker.models.tables import (
    answers,
    attempts,
    batches,
    cancellations,
    params,
    pruner_positions,
    real_time_calls,
    requests,
    segments,
    tags,
)
from carpool_worker.store.batches.rows import first_id_at
from carpool_worker.store.deliveries import coverage
from carpool_worker.store.requests.rows import UNBATCHED, among
from carpool_worker.store.requests.segments import first_id, joined
from carpool_worker.store.retention import (
    NOTHING,
    Members,
    Pruned,
    all_ended,
    all_of,
    last_of,
    members_of,
)
from carpool_worker.store.upserts import upsert
from carpool_worker.units import Milliseconds

WALK = "batches"
"""The name of the walk over the batches in `pruner_positions`."""

FIRST = UNBATCHED
"""Before the ids of all batches."""


class Walked(NamedTuple):
    """How many batches one step looked at, and how many of them went."""

    looked_at: int
    dropped: int


def prune_keyed(connection: sa.Connection, before: Milliseconds, after: int, limit: int) -> Pruned:
    """Delete requests with an idempotency key, of segments whose requests all ended before then, with all about them.

    From then on the key is a new request. Those with params or an answer that is kept, or a delivery under way, stay.
    It looks at up to `limit` segments, after the segment `after`.
    """
    return _prune(connection, before, after, limit, KEYED, is_keyed)


def prune_unkeyed(connection: sa.Connection, before: Milliseconds, after: int, limit: int) -> Pruned:
    """Delete requests without an idempotency key, as `prune_keyed` those that have one."""
    return _prune(connection, before, after, limit, UNKEYED, lambda id_: not is_keyed(id_))


def prune_batches(connection: sa.Connection, before: Milliseconds, limit: int) -> Walked:
    """Delete batches that finished before then, are in the totals, and have no request left.

    It looks at the next `limit` of those that were opened before then, and goes on after them the next time; after the
    last it begins anew. So batches that stay, as their requests do, cost little however many they are.
    """
    row, position = batches.c, pruner_positions.c
    last = connection.scalar(sa.select(position.last).where(position.walk == WALK)) or FIRST
    page = sa.select(row.id).where(row.id > last, row.id < first_id_at(before))
    found = list(connection.scalars(page.order_by(row.id).limit(limit)))
    is_empty = ~sa.exists().where(requests.c.batch_id == row.id)
    due = sa.delete(batches).where(row.finished_at <= before, row.tallied_at.is_not(None), is_empty)
    gone = connection.execute(due.where(row.id.in_(found))).rowcount
    reached = found[-1] if len(found) == limit else FIRST
    upsert(connection, pruner_positions, [{"walk": WALK, "last": reached}], replace=("last",))
    return Walked(len(found), gone)


def _prune(
    connection: sa.Connection,
    before: Milliseconds,
    after: int,
    limit: int,
    has_some: sa.ColumnElement[bool],
    is_meant: Callable[[str], bool],
) -> Pruned:
    row = segments.c
    kept = sa.exists().where(params.c.id == row.id)
    due = sa.select(row.id, row.ids).where(has_some, row.id > after, row.id < first_id(before))
    due = due.where(row.ends_after <= before, ~kept)
    members = members_of(connection, due.order_by(row.id).limit(limit))
    if not members:
        return NOTHING
    blocked = _blocked(connection, members)
    ended = all_ended(connection, members, before)
    free = {one: members[one] for one in ended if blocked.isdisjoint(members[one])}
    meant = {id_ for id_ in all_of(free) if is_meant(id_)}
    _forget_members(connection, {one: [id_ for id_ in ids if id_ not in meant] for one, ids in free.items()})
    return Pruned(last_of(members, limit), _forget(connection, sorted(meant)))


def _blocked(connection: sa.Connection, members: Members) -> set[str]:
    """Return the requests of these segments whose answers are kept, or still to be delivered with others."""
    row = requests.c
    ended = sa.select(row.id, row.answer_id).where(among(connection, all_of(members)))
    places = dict(connection.execute(ended.where(row.answer_id.is_not(None))).all())
    ids = set(places.values())
    kept = set(connection.scalars(sa.select(answers.c.id).where(answers.c.id.in_(ids))))
    held = kept | coverage.awaiting_delivery(connection, ids)
    return {id_ for id_, answer_id in places.items() if answer_id in held}


def _forget_members(connection: sa.Connection, left: Members) -> None:
    """Write down which requests are left of these segments, and delete those that have none."""
    row = segments.c
    rest = [
        {"segment": one, "ids": joined(ids), "requests": len(ids), "keyed": sum(map(is_keyed, ids))}
        for one, ids in left.items()
        if ids
    ]
    if rest:
        connection.execute(sa.update(segments).where(row.id == sa.bindparam("segment")), rest)
    connection.execute(sa.delete(segments).where(row.id.in_([one for one, ids in left.items() if not ids])))


def _forget(connection: sa.Connection, ids: Sequence[str]) -> int:
    """Delete these requests with all that would be taken for that of a new request with the same id."""
    coverage.forget(connection, ids)
    for column in (attempts.c.request_id, tags.c.request_id, real_time_calls.c.request_id):
        connection.execute(sa.delete(column.table).where(among(connection, ids, column)))
    connection.execute(sa.delete(cancellations).where(cancellations.c.request_id.in_(ids)))
    return connection.execute(sa.delete(requests).where(among(connection, ids))).rowcount
