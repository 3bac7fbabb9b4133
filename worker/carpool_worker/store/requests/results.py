"""Reads which requests have ended, and their results as Anthropic's API worded them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from carpool_worker.models.tables import answers, requests, segments
from carpool_worker.store.requests.rows import among
from carpool_worker.store.requests.segments import Place, at_places, first_id, split
from carpool_worker.units import HOUR

MOST_CLOCK_SKEW = HOUR
"""How far the clocks of producers and workers may differ."""

IDS = 5_000
"""Read from the database at a time."""

SEGMENTS = 25
"""Segments whose requests are looked up at a time: 5,000."""


class Ended(NamedTuple):
    """How a request ended, with its result as it came."""

    id: str
    outcome: str  # succeeded, errored, canceled, expired
    body: bytes | None  # the `result` of its line; None: no longer kept


def ended(connection: sa.Connection, ids: Sequence[str]) -> set[str]:
    """Return those of `ids` that have ended."""
    query = sa.select(requests.c.id).where(among(connection, ids), requests.c.finished_at.is_not(None))
    return set(connection.scalars(query))


def of_ended(connection: sa.Connection, ids: Sequence[str]) -> dict[str, Ended]:
    """Return the outcomes and results, by id, of those of `ids` that have ended."""
    row = requests.c
    query = sa.select(row.id, row.outcome, row.answer_id, row.answer_position)
    found = connection.execute(query.where(among(connection, ids), row.finished_at.is_not(None))).all()
    places = {one.id: Place(one.answer_id, one.answer_position) for one in found if one.answer_id}
    bodies = at_places(connection, answers, places)
    return {one.id: Ended(one.id, one.outcome, bodies.get(one.id)) for one in found}


def in_batch(connection: sa.Connection, batch_id: str) -> Iterator[str]:
    """Yield the ids of all requests of a batch."""
    query = sa.select(requests.c.id).where(requests.c.batch_id == batch_id)
    yield from connection.scalars(query.execution_options(yield_per=IDS))


def of_client(connection: sa.Connection, client: str, since: int) -> Iterator[str]:
    """Yield the ids of a client's requests enqueued since then (milliseconds since the epoch).

    They come as they were stored: oldest first among SEGMENTS segments, whose requests are in memory together.
    """
    row = segments.c
    theirs = sa.select(row.id, row.ids).where(row.client == client).order_by(row.id).limit(SEGMENTS)
    after = first_id(max(0, since - MOST_CLOCK_SKEW))
    while page := connection.execute(theirs.where(row.id > after)).all():
        ids = [id_ for one in page for id_ in split(one.ids)]
        found = sa.select(requests.c.id).where(among(connection, ids), requests.c.enqueued_at >= since)
        yield from connection.scalars(found.order_by(requests.c.enqueued_at, requests.c.id)).all()
        after = page[-1].id
