"""SQL about the receivers of deliveries: what they took lately and how fast, and the latest tries."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from carpool_worker.models.tables import attempts, deliveries
from carpool_worker.states import DeliveryState
from carpool_worker.store.requests.segments import RANDOM_BITS, first_id
from carpool_worker.units import Milliseconds

MOST_READ = 5_000
"""Rows of deliveries that are read, each of up to 200; the newest."""

READ = ("answer_id", "target", "channel", "state", "delivered", "pending", "delivered_at", "progress_at")

PERCENT = 95


class Lately(NamedTuple):
    """What became of deliveries to a target of answers that were stored lately."""

    target: str  # a URL, or a task's name
    channel: str
    delivered: int
    retryable: int  # failed, and tried again later
    discarded: int
    due: int  # neither, yet


class LateTry(NamedTuple):
    """A try to deliver that is on record; `at` is milliseconds since the epoch."""

    id: int
    request_id: str
    attempt: int
    at: int
    milliseconds: int
    status: int | None
    detail: str | None


def lately(connection: sa.Connection, since: Milliseconds, client: str | None) -> list[Lately]:
    """Count the deliveries of answers stored since then, of a client or of all, by their target."""
    row = _newest(since, client).subquery("newest").c
    in_state = [row.state == DeliveryState.RETRYABLE, row.state == DeliveryState.DISCARDED]
    pending = [sa.func.sum(row.pending).filter(one) for one in (*in_state, ~sa.or_(*in_state))]
    counted = sa.select(row.target, row.channel, sa.func.sum(row.delivered), *pending)
    found = connection.execute(counted.group_by(row.target, row.channel).order_by(row.target))
    return [Lately(one[0], one[1], *(int(count or 0) for count in one[2:])) for one in found]


def slowest(connection: sa.Connection, since: Milliseconds, client: str | None) -> dict[str, int]:
    """Return by target within how many milliseconds PERCENT of its deliveries were made after the answer was stored."""
    row = _newest(since, client).where(deliveries.c.delivered > 0).subquery("made").c
    stored_at = row.answer_id.op(">>")(sa.literal_column(str(RANDOM_BITS)))
    took = sa.func.coalesce(row.delivered_at, row.progress_at) - stored_at
    each = sa.select(
        row.target,
        took.label("took"),
        sa.func.sum(row.delivered).over(partition_by=row.target, order_by=took).label("so_far"),
        sa.func.sum(row.delivered).over(partition_by=row.target).label("in_all"),
    ).subquery("each_made")
    enough = each.c.so_far * 100 >= each.c.in_all * PERCENT
    found = sa.select(each.c.target, sa.func.min(each.c.took)).where(enough).group_by(each.c.target)
    return {target: int(milliseconds) for target, milliseconds in connection.execute(found)}


def latest_tries(connection: sa.Connection, limit: int, before: int | None = None) -> list[LateTry]:
    """Return the latest tries on record, the latest first; with `before` those before the try of that id."""
    query = (
        sa.select(*(attempts.c[name] for name in LateTry._fields)).order_by(attempts.c.id.desc()).limit(limit)
    )
    if before is not None:
        query = query.where(attempts.c.id < before)
    return [LateTry._make(row) for row in connection.execute(query)]


def _newest(since: Milliseconds, client: str | None) -> sa.Select[tuple[object, ...]]:
    row = deliveries.c
    query = sa.select(*(row[name] for name in READ)).where(row.answer_id >= first_id(since))
    if client is not None:
        query = query.where(row.client == client)
    return query.order_by(row.answer_id.desc()).limit(MOST_READ)
