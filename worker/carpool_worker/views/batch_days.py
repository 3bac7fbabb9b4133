"""The time line of a day: the batches that lived then, and when each was in which state; and what one is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from carpool_worker.database import now
from carpool_worker.models import Batch
from carpool_worker.states import BatchState
from carpool_worker.store.reports import batches
from carpool_worker.store.reports.batches import ClientShare
from carpool_worker.units import DAY, Milliseconds
from carpool_worker.views import lookup
from carpool_worker.views.encoding import Moment

MOST_BARS = 120
"""More can't be told apart on a screen."""

APART = Milliseconds(DAY // 240)
"""Between two batches of one row, so that they are told apart: six minutes are a few pixels."""

FINAL = (BatchState.COMPLETED, BatchState.REJECTED)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """How long a batch was in a state."""

    state: BatchState
    since: Moment
    until: Moment


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A batch, and the states that it passed through, in order."""

    id: str
    model: str
    state: BatchState
    requests: int
    phases: Sequence[Phase]
    since: Moment  # within the day
    until: Moment
    row: int = 0  # of the time line: what is in one row does not overlap


@dataclass(frozen=True, kw_only=True)
class Day:
    """The newest batches that lived within the last 24 hours, newest first; `is_cut` if there were more."""

    since: Moment
    until: Moment
    bars: Sequence[Bar]
    is_cut: bool
    rows: int


@dataclass(frozen=True, kw_only=True)
class Breakdown:
    """What a batch is made of: each client's share of it, and how many requests failed with which type of error."""

    shares: Sequence[ClientShare]
    errors: Mapping[str, int]


def day(connection: sa.Connection) -> Day:
    """Return the last 24 hours."""
    until = now()
    since = Milliseconds(until - DAY)
    found = batches.alive_since(connection, since, MOST_BARS + 1)
    bars = in_rows([_bar(batch, since, until) for batch in found[:MOST_BARS]])
    rows = 1 + max((bar.row for bar in bars), default=-1)
    return Day(since=since, until=until, bars=bars, is_cut=len(found) > MOST_BARS, rows=rows)


def in_rows(bars: Sequence[Bar]) -> list[Bar]:
    """Return the bars in as few rows as hold them without overlaps, from the first that began; in the same order."""
    ends: list[int] = []
    placed = {}
    for bar in sorted(bars, key=lambda one: (one.since, one.id)):
        row = next((row for row, end in enumerate(ends) if end + APART <= bar.since), len(ends))
        ends[row : row + 1] = [bar.until]
        placed[bar.id] = replace(bar, row=row)
    return [placed[bar.id] for bar in bars]


def breakdown(connection: sa.Connection, named: str) -> Breakdown:
    """Return what a batch is made of.

    Raises:
        UnknownId, AmbiguousId.
    """
    id_ = lookup.batch_id(connection, named)
    errors = batches.error_types(connection, [id_]).get(id_, {})
    return Breakdown(
        shares=batches.shares(connection, id_),
        errors=dict(sorted(errors.items(), key=lambda one: (-one[1], one[0]))),
    )


def _bar(batch: Batch, since: int, until: int) -> Bar:
    phases = list(_phases(batch, since, until))
    ended = batch.finished_at or until
    return Bar(
        id=batch.id,
        model=batch.model,
        state=BatchState(batch.state),
        requests=batch.request_count,
        phases=phases,
        since=phases[0].since if phases else Milliseconds(min(ended, until)),
        until=phases[-1].until if phases else Milliseconds(min(ended, until)),
    )


def _phases(batch: Batch, since: int, until: int) -> Iterator[Phase]:
    """Yield the phases of a batch, as far as they are between these times."""
    begun = [
        (BatchState.OPEN, batch.opened_at),
        (BatchState.SEALED, batch.sealed_at),
        (BatchState.SUBMITTING, batch.submitting_at if batch.in_progress_at is None else None),
        (BatchState.IN_PROGRESS, batch.in_progress_at),
        (BatchState.ENDED, batch.ended_at),
        (BatchState(batch.state), batch.finished_at),
    ]
    last = since  # Anthropic's clock has whole seconds: a batch can seem to have ended before it began
    known = [(state, last := max(last, at)) for state, at in begun if at is not None]
    ends = [*(at for _, at in known[1:]), batch.finished_at or until]
    for (state, at), end in zip(known, ends, strict=True):
        if state not in FINAL and min(end, until) > at:
            yield Phase(state=state, since=at, until=min(end, until))
