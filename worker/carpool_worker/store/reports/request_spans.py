"""How far one look at a list of requests goes: what is rare is not looked for among a million of others at once.

There is no index by state, client or tag that has requests in the order of their batches: each would be written for
every request. So a list goes by the batches, and stops after so many.
"""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import sqlalchemy as sa

from carpool_worker.models.tables import batches, segments
from carpool_worker.states import RequestState
from carpool_worker.store.reports.requests import FEW_SEGMENTS, RequestFilter

MOST_READ = 30_000
"""Requests of a look, the last batch's not counted."""

MOST_BATCHES = 1_000
"""Batches of a look, however small they are."""


class Span(NamedTuple):
    """The last batch of a look, and the one from which the next look goes on; None: it reaches the end."""

    last: str | None = None
    following: str | None = None


WHOLE = Span()


def span(connection: sa.Connection, wanted: RequestFilter, start: str | None, *, forward: bool) -> Span:
    """Return how far a look for these goes from a batch on, to newer ones (`forward`) or to older ones."""
    if not _may_be_rare(connection, wanted):
        return WHOLE
    row = batches.c
    query = sa.select(row.id, row.request_count).order_by(row.id if forward else row.id.desc())
    if start is not None:
        query = query.where(row.id >= start if forward else row.id <= start)
    found = connection.execute(query.limit(MOST_BATCHES + 1)).all()
    sums = accumulate(count for _, count in found)
    ends = next((at for at, read in enumerate(sums, 1) if read >= MOST_READ), MOST_BATCHES)
    return Span(found[ends - 1].id, found[ends].id) if ends < len(found) else WHOLE


def _may_be_rare(connection: sa.Connection, wanted: RequestFilter) -> bool:
    """Return whether no index finds these; see RequestFilter.conditions, and what of few has been looked up there."""
    if wanted.batch is not None or wanted.error is not None or wanted.state is RequestState.RETRYABLE:
        return False
    if wanted.tag is not None:
        return wanted.is_common
    if wanted.client is not None:
        theirs = sa.select(segments.c.id).where(segments.c.client == wanted.client).limit(FEW_SEGMENTS + 1)
        return len(list(connection.scalars(theirs))) > FEW_SEGMENTS
    return wanted.state is not None
