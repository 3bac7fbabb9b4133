"""Clients as operators see them: what each has waiting, and the states of one client's requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from carpool.quotas import OF_KEYS, subject_of
from carpool_worker.coordination.loads import NOTHING, Load
from carpool_worker.models.indexes import DEAD, RETRYABLE, UNFINISHED, UNFINISHED_CALLS
from carpool_worker.models.tables import (
    batches,
    deliveries,
    gateway_keys,
    real_time_calls,
    requests,
    segments,
    usage,
    usage_entries,
)
from carpool_worker.states import BatchState, RequestState
from carpool_worker.store.bulk import one_of_few
from carpool_worker.store.requests.rows import among

HELD = "held"

CALLED = "real time"
"""Requests that are called, or wait to be; no batch has them."""


def _called(connection: sa.Connection) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the condition that a request waits for a call alone, as its index finds it."""
    row = real_time_calls.c
    alone = sa.select(row.request_id).where(UNFINISHED_CALLS, row.batch_id.is_(None))
    is_alone = one_of_few(connection, requests.c.id, alone)
    return is_alone, requests.c.finished_at.is_(None), requests.c.retry_at.is_(None)


def waiting(connection: sa.Connection, client: str | None = None) -> dict[str, int]:
    """Return how many requests of each client (or of one) have not ended; only those are read."""
    # Three queries, as each has an index; an OR would read the whole table.
    unfinished = sa.select(batches.c.id).where(UNFINISHED)
    batched = (
        requests.c.batch_id.in_(unfinished),
        requests.c.finished_at.is_(None),
        requests.c.retry_at.is_(None),
    )
    counted: Counter[str] = Counter()
    for conditions in (batched, (RETRYABLE,), _called(connection)):
        query = sa.select(requests.c.client, sa.func.count()).where(*conditions).group_by(requests.c.client)
        if client is not None:
            query = query.where(requests.c.client == client)
        for name, count in connection.execute(query):
            counted[name] += count
    return dict(counted)


def loads(
    connection: sa.Connection, clients: Collection[str] | None, keys: Collection[str]
) -> dict[str, Load]:
    """Return what of clients (None: of all) and of keys of the gateway has not ended, by `subject_of` of keys.

    It is one statement, so that a request that waits elsewhere from one moment to the next is not missed.
    """
    unfinished = sa.select(batches.c.id).where(UNFINISHED)
    batched = (
        requests.c.batch_id.in_(unfinished),
        requests.c.finished_at.is_(None),
        requests.c.retry_at.is_(None),
    )
    found = connection.execute(
        sa.union_all(*(_summed(keys, *which) for which in (batched, (RETRYABLE,), _called(connection))))
    )
    return _by_owner(found, clients, keys)


def loads_of(connection: sa.Connection, ids: Sequence[str], owners: Collection[str]) -> dict[str, Load]:
    """Return what these requests are counted as, by whose of `owners` they are (keys as `subject_of` has them)."""
    keys = {owner.removeprefix(OF_KEYS) for owner in owners if owner.startswith(OF_KEYS)}
    return _by_owner(connection.execute(_summed(keys, among(connection, ids))), owners, keys)


def _summed(keys: Collection[str], *which: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Select the clients and keys of requests, with their numbers and bytes; the keys only where some are asked for."""
    row, sums = requests.c, (sa.func.count(), sa.func.sum(requests.c.params_bytes))
    if not keys:
        return sa.select(row.client, sa.null(), *sums).where(*which).group_by(row.client)
    joined = requests.join(segments, segments.c.id == row.segment_id)
    owner = row.client, segments.c.gateway_key
    return sa.select(*owner, *sums).select_from(joined).where(*which).group_by(*owner)


def _by_owner(
    rows: Iterable[Sequence[Any]], clients: Collection[str] | None, keys: Collection[str]
) -> dict[str, Load]:
    sums: dict[str, Load] = {}
    for client, key, count, size in rows:
        load = Load(int(count), int(size))
        if clients is None or client in clients:
            sums[client] = sums.get(client, NOTHING).plus(load)
        if key is not None and key in keys:
            sums[subject_of(key)] = sums.get(subject_of(key), NOTHING).plus(load)
    return sums


def waiting_by_state(connection: sa.Connection, client: str) -> dict[str, int]:
    """Return how many requests of a client wait, by the state of their batch, or as `retryable` or `held`."""
    states = dict(connection.execute(sa.select(batches.c.id, batches.c.state).where(UNFINISHED)).all())
    # Not a join: SQLite would begin with all requests.
    unfinished = sa.select(batches.c.id).where(UNFINISHED)
    theirs = requests.c.client == client, requests.c.finished_at.is_(None), requests.c.retry_at.is_(None)
    counted = sa.select(requests.c.batch_id, sa.func.count()).where(
        requests.c.batch_id.in_(unfinished), *theirs
    )
    found: Counter[str] = Counter()
    for batch_id, count in connection.execute(counted.group_by(requests.c.batch_id)):
        found[str(states[batch_id])] += count
    counts = sa.func.count(), sa.func.count(requests.c.held_at)
    retryable = sa.select(*counts).where(RETRYABLE, requests.c.client == client)
    waiting, held = connection.execute(retryable).one()
    called = sa.select(sa.func.count()).where(*_called(connection), requests.c.client == client)
    found.update(
        {str(RequestState.RETRYABLE): waiting - held, HELD: held, CALLED: connection.scalar(called) or 0}
    )
    order = [*map(str, BatchState), CALLED, str(RequestState.RETRYABLE), HELD]
    return {state: found[state] for state in order if found.get(state)}


def dead_letters(connection: sa.Connection, client: str) -> int:
    """Return how many deliveries of a client's answers were given up."""
    dead = sa.select(sa.func.sum(deliveries.c.pending)).where(DEAD, deliveries.c.client == client)
    return connection.scalar(dead) or 0


def is_known(connection: sa.Connection, client: str) -> bool:
    """Return whether a client ever had an answer, or has a request or a key."""
    tables = (usage, usage_entries, segments, gateway_keys)
    return any(
        connection.scalar(sa.select(sa.literal(1)).where(table.c.client == client).limit(1))
        for table in tables
    )
