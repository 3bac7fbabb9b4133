"""Batches as operators see them: a page of them, or one with the states of its requests."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple

import sqlalchemy as sa

from carpool.contract import REQUEST_ID
from carpool_worker.models import Batch
from carpool_worker.models.indexes import FAILED, PARTS
from carpool_worker.models.tables import batches, requests
from carpool_worker.states import BatchState
from carpool_worker.store.batches.witnesses import workspace_in
from carpool_worker.store.reports import ids
from carpool_worker.store.reports.status import LONGEST_LIFE
from carpool_worker.units import HOUR, Milliseconds


class ClientShare(NamedTuple):
    """What a batch has of one client; money is in dollars, None until it is known."""

    client: str
    requests: int
    ended: int
    cost: Decimal | None
    list_price: Decimal | None


def page(
    connection: sa.Connection,
    limit: int,
    states: Sequence[BatchState] = (),
    model: str | None = None,
    since: int | None = None,
    before: str | None = None,
    after: str | None = None,
) -> list[Batch]:
    """Return the newest `limit` batches, newest last; or those just before `before`, or just after `after`.

    With `since` (milliseconds since the epoch), only batches opened then or later.
    """
    chosen = sa.select(batches).where(*_conditions(states, model, since)).limit(limit)
    if before:
        chosen = chosen.where(batches.c.id < before)
    if after:
        following = connection.execute(chosen.where(batches.c.id > after).order_by(batches.c.id))
        return [Batch(**row._mapping) for row in following]
    newest = connection.execute(chosen.order_by(batches.c.id.desc())).all()
    return [Batch(**row._mapping) for row in reversed(newest)]


def _conditions(
    states: Sequence[BatchState], model: str | None, since: int | None
) -> Iterator[sa.ColumnElement[bool]]:
    if states:
        yield batches.c.state.in_(states)
    if model:
        yield batches.c.model == model
    if since is not None:
        yield batches.c.opened_at >= since
        yield batches.c.id >= ids.since(since - HOUR)  # the index; a batch has its id when it is opened


def find(connection: sa.Connection, named: str) -> Batch | None:
    """Return the batch with this id, here or at Anthropic, or None."""
    column = batches.c.id if REQUEST_ID.fullmatch(named) else batches.c.claude_id
    row = connection.execute(sa.select(batches).where(column == named)).one_or_none()
    return None if row is None else Batch(**row._mapping)


def parts(connection: sa.Connection, batch_id: str) -> list[str]:
    """Return the ids of the batches that a rejected one was split into."""
    return list(
        connection.scalars(
            sa.select(batches.c.id).where(PARTS, batches.c.parent_id == batch_id).order_by(batches.c.id)
        )
    )


def request_states(connection: sa.Connection, batch_id: str) -> dict[str, int]:
    """Return how many of a batch's requests are in each state."""
    counted = sa.select(requests.c.state, sa.func.count()).where(requests.c.batch_id == batch_id)
    return {str(state): count for state, count in connection.execute(counted.group_by(requests.c.state))}


def error_types(connection: sa.Connection, batch_ids: Collection[str]) -> dict[str, dict[str, int]]:
    """Return, for each of these batches with requests that failed, how many did so with which type of error."""
    row = requests.c
    counted = sa.select(row.batch_id, row.error, sa.func.count()).where(FAILED, row.batch_id.in_(batch_ids))
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for batch_id, error, count in connection.execute(counted.group_by(row.batch_id, row.error)):
        found[batch_id][error] = count
    return found


def alive_since(connection: sa.Connection, at: Milliseconds, limit: int) -> list[Batch]:
    """Return the newest `limit` batches that had not finished by then, newest first."""
    row = batches.c
    lived = sa.or_(row.finished_at.is_(None), row.finished_at >= at)
    query = sa.select(batches).where(row.id >= ids.since(at - LONGEST_LIFE), lived)
    return [Batch(**one._mapping) for one in connection.execute(query.order_by(row.id.desc()).limit(limit))]


def shares(connection: sa.Connection, batch_id: str) -> list[ClientShare]:
    """Return what a batch has of each client, the most requests first."""
    row = requests.c
    money = (sa.func.sum(row.cost), sa.func.sum(row.list_price))
    ended = sa.func.count().filter(row.finished_at.is_not(None))
    each = sa.select(row.client, sa.func.count(), ended, *money).where(row.batch_id == batch_id)
    found = [ClientShare._make(one) for one in connection.execute(each.group_by(row.client))]
    return sorted(found, key=lambda one: (-one.requests, one.client))


def posted_since(connection: sa.Connection, at: Milliseconds) -> dict[tuple[str | None, str | None], int]:
    """Count the batches that Anthropic has accepted since then, by account and by the workspace that they name."""
    row = batches.c
    count = sa.func.count().filter(row.claude_id.is_not(None), row.in_progress_at >= at)
    posted = sa.select(row.account, row.headers, count).where(row.id >= ids.since(at - LONGEST_LIFE))
    counts: Counter[tuple[str | None, str | None]] = Counter()
    for account, headers, some in connection.execute(posted.group_by(row.account, row.headers)):
        counts[account, workspace_in(headers)] += some
    return dict(counts)
