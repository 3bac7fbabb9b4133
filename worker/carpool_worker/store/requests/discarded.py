"""The SQL of putting discarded requests back to be tried again, as far as that can be.

Its old answer and its delivery go, so that the request has one of each again; the tries to deliver stay. It is tried
as often as a new one, and by whoever's word it is: no budget keeps it back, though what it costs counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool_worker import transition_log
from carpool_worker.models.indexes import CANCEL_REQUESTED, UNFINISHED
from carpool_worker.models.tables import answers, batches, deliveries, params, requests
from carpool_worker.states import RETRY, DeliveryState
from carpool_worker.store.requests.rows import UNBATCHED, among

PRUNING_MARGIN = 3_600_000
"""Milliseconds before params are due to be pruned from which on they are not counted on any more."""

UNBILLED = ("canceled", "expired")
LOST_KINDS = ("result_missing", "results_gone")
"""Outcomes that cost nothing (api docs), as an errored one does; unless the error is one of Carpool's own, that says
that nobody could read the answer, which may have been made and paid for."""


class Chance(StrEnum):
    """Whether a discarded request can be retried."""

    FREE = "free"  # nothing was paid for it
    PAID = "paid"  # perhaps: its answer was lost, or nobody knows
    UNWANTED = "unwanted"  # its client wanted it canceled
    GONE = "gone"  # what it says is no longer kept
    BUSY = "busy"  # its callback is just being told that it failed


@dataclass(frozen=True)
class DiscardedFilter:
    """Which discarded requests; None is any. Times are milliseconds since the epoch."""

    kept_since: int  # params of what was discarded before then may be pruned any moment
    ids: Sequence[str] | None = None
    client: str | None = None
    since: int | None = None  # discarded then or later
    until: int | None = None  # discarded before then

    def conditions(self, connection: sa.Connection) -> list[sa.ColumnElement[bool]]:
        """Return it as conditions on requests."""
        row = requests.c
        conditions: list[sa.ColumnElement[bool]] = [row.state.in_(RETRY.sources)]
        if self.ids is not None:
            conditions.append(among(connection, self.ids))
        else:
            lately = sa.or_(UNFINISHED, batches.c.finished_at >= self._since)
            in_batches = row.batch_id.in_(sa.select(batches.c.id).where(lately))
            conditions.append(sa.or_(in_batches, row.batch_id == UNBATCHED))
        if self.client is not None:
            conditions.append(row.client == self.client)
        if self.since is not None:
            conditions.append(row.finished_at >= self.since)
        if self.until is not None:
            conditions.append(row.finished_at < self.until)
        return conditions

    @property
    def _since(self) -> int:
        return max(self.since or 0, self.kept_since)

    def chance(self) -> sa.Case[Any]:
        """Return the Chance of a request, as SQL."""
        row = requests.c
        kept = sa.exists().where(params.c.request_id == row.id)
        held = sa.exists().where(
            deliveries.c.request_id == row.id, deliveries.c.state == DeliveryState.DELIVERING
        )
        return sa.case(
            (CANCEL_REQUESTED, Chance.UNWANTED.value),
            (sa.or_(row.finished_at < self.kept_since, ~kept), Chance.GONE.value),
            (held, Chance.BUSY.value),
            (_IS_FREE, Chance.FREE.value),
            else_=Chance.PAID.value,
        )


class DiscardedCount(NamedTuple):
    """How many discarded requests of a client and a model have which chance, and how many were told of already."""

    client: str
    model: str
    chance: Chance
    rows: int
    told: int


def _lost(kind: str) -> sa.ColumnElement[bool]:
    body = b'{"type":"errored","error":{"type":"error","error":{"type":"%b"' % kind.encode()
    return sa.func.substr(answers.c.body, 1, len(body)) == sa.literal(body, sa.LargeBinary)


_IS_FREE = sa.or_(
    requests.c.outcome.in_(UNBILLED),
    sa.and_(
        requests.c.outcome == "errored",
        sa.exists().where(
            answers.c.request_id == requests.c.id, sa.not_(sa.or_(*(_lost(kind) for kind in LOST_KINDS)))
        ),
    ),
)


def count(connection: sa.Connection, wanted: DiscardedFilter) -> list[DiscardedCount]:
    """Return what there is of these requests, by client, model and chance."""
    row = requests.c
    told = sa.exists().where(deliveries.c.request_id == row.id, deliveries.c.delivered_at.is_not(None))
    each = sa.select(
        row.client, row.model, wanted.chance().label("chance"), sa.case((told, 1), else_=0).label("told")
    )
    one = each.where(*wanted.conditions(connection)).subquery().c
    counted = sa.select(one.client, one.model, one.chance, sa.func.count(), sa.func.sum(one.told))
    found = connection.execute(counted.group_by(one.client, one.model, one.chance))
    return [
        DiscardedCount(client, model, Chance(chance), rows, int(told))
        for client, model, chance, rows, told in found
    ]


def retry(
    connection: sa.Connection, wanted: DiscardedFilter, chances: Sequence[Chance], limit: int, now: int
) -> int:
    """Make up to `limit` of these requests, of these chances, retryable at once; return how many."""
    row = requests.c
    some = sa.select(row.id).where(*wanted.conditions(connection), wanted.chance().in_(chances)).limit(limit)
    ids = list(connection.scalars(some.order_by(row.id).with_for_update(of=requests)))
    guarded = sa.update(requests).where(among(connection, ids), row.state.in_(RETRY.sources))
    back = guarded.values(
        state=RETRY.target, attempt=0, outcome=None, retry_at=now, finished_at=None, **dict.fromkeys(USED)
    )
    for table in (answers, deliveries):
        connection.execute(sa.delete(table).where(among(connection, ids, table.c.request_id)))
    count = connection.execute(back).rowcount
    transition_log.record_many(connection, f"requests {RETRY.target}", count, move=RETRY.verb)
    return count


USED = ("input_tokens", "output_tokens", "cache_write_tokens", "cache_read_tokens", "cost", "list_price")
