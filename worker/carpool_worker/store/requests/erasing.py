"""SQL that erases bodies in segments of params or answers, which others may share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

import sqlalchemy as sa

from carpool.segments import unpack, without
from carpool_worker.models.tables import answers
from carpool_worker.store.deliveries import coverage
from carpool_worker.store.requests.segments import Place


def erase(connection: sa.Connection, table: sa.Table, positions: Mapping[int, Collection[int]]) -> int:
    """Erase the bodies at these positions of segments of `params` or `answers`; return how many were there.

    A segment is packed again without them. If no other body is left in it, it is deleted, unless an answer in it is
    still to be delivered: its ids are needed for that.
    """
    # In one order for all, so that no two wait for each other.
    return sum(_cut(connection, table, one, set(positions[one])) for one in sorted(positions))


def by_segment(places: Iterable[Place]) -> dict[int, set[int]]:
    """Return the positions in each segment."""
    positions: defaultdict[int, set[int]] = defaultdict(set)
    for place in places:
        positions[place.segment_id].add(place.position)
    return positions


def _cut(connection: sa.Connection, table: sa.Table, segment_id: int, positions: set[int]) -> int:
    # Locked, or another that cuts the same segment would bring back what is erased here.
    where = table.c.id == segment_id
    body = connection.scalar(sa.select(table.c.body).where(where).with_for_update())
    if body is None:
        return 0
    left = {position for position, one in enumerate(unpack(body)) if one}
    is_awaited = table is answers and bool(coverage.awaiting_delivery(connection, [segment_id]))
    if left <= positions and not is_awaited:
        if table is answers:
            coverage.prune(connection, [segment_id])
        connection.execute(sa.delete(table).where(where))
    elif left & positions:
        connection.execute(sa.update(table).where(where).values(body=without(body, positions)))
    return len(left & positions)
