"""Clients as operators see them: what each has waiting, and the states of one client's requests."""

from __future__ import annotations

from collections import Counter

import sqlalchemy as sa

from carpool_worker.models.indexes import DEAD, RETRYABLE, UNFINISHED
from carpool_worker.models.tables import batches, deliveries, requests, segments, usage
from carpool_worker.states import BatchState, RequestState

HELD = "held"


def waiting(connection: sa.Connection, client: str | None = None) -> dict[str, int]:
    """Return how many requests of each client (or of one) have not ended; only those are read."""
    # Two queries, as each has an index; an OR would read the whole table.
    unfinished = sa.select(batches.c.id).where(UNFINISHED)
    batched = (
        requests.c.batch_id.in_(unfinished),
        requests.c.finished_at.is_(None),
        requests.c.retry_at.is_(None),
    )
    counted: Counter[str] = Counter()
    for conditions in (batched, (RETRYABLE,)):
        query = sa.select(requests.c.client, sa.func.count()).where(*conditions).group_by(requests.c.client)
        if client is not None:
            query = query.where(requests.c.client == client)
        for name, count in connection.execute(query):
            counted[name] += count
    return dict(counted)


def waiting_of_key(connection: sa.Connection, client: str, key: str) -> int:
    """Return how many requests that came with a key of the gateway have not ended."""
    unfinished = sa.select(batches.c.id).where(UNFINISHED)
    batched = (
        requests.c.batch_id.in_(unfinished),
        requests.c.finished_at.is_(None),
        requests.c.retry_at.is_(None),
    )
    joined = requests.join(segments, segments.c.id == requests.c.segment_id)
    theirs = (requests.c.client == client, segments.c.gateway_key == key)
    counted = sa.select(sa.func.count()).select_from(joined).where(*theirs)
    return sum(connection.scalar(counted.where(*which)) or 0 for which in (batched, (RETRYABLE,)))


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
    found.update({str(RequestState.RETRYABLE): waiting - held, HELD: held})
    order = [*map(str, BatchState), str(RequestState.RETRYABLE), HELD]
    return {state: found[state] for state in order if found.get(state)}


def dead_letters(connection: sa.Connection, client: str) -> int:
    """Return how many deliveries of a client's answers were given up."""
    dead = sa.select(sa.func.sum(deliveries.c.pending)).where(DEAD, deliveries.c.client == client)
    return connection.scalar(dead) or 0


def is_known(connection: sa.Connection, client: str) -> bool:
    """Return whether a client ever had an answer or has a request."""
    answered = sa.select(usage.c.client).where(usage.c.client == client).limit(1)
    asked = sa.select(segments.c.id).where(segments.c.client == client).limit(1)
    return connection.scalar(answered) is not None or connection.scalar(asked) is not None
