"""SQL about the totals: sums over all batches that were ever made, without reading more than the newest of them.

A finished batch does not change, so it is added to the totals once. The others are few, and are summed when asked for.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool_worker.models.indexes import UNTALLIED
from carpool_worker.models.tables import batch_stays, batch_totals, batches
from carpool_worker.states import OUTCOMES, BatchState
from carpool_worker.store.upserts import upsert
from carpool_worker.units import SECOND, Milliseconds

TALLIED = 1_000
"""The most batches that one call adds to the totals."""

STAYS = {
    BatchState.OPEN: ("opened_at", "sealed_at"),
    BatchState.SEALED: ("sealed_at", "submitting_at"),
    BatchState.SUBMITTING: ("submitting_at", "in_progress_at"),
    BatchState.IN_PROGRESS: ("in_progress_at", "ended_at"),
    BatchState.ENDED: ("ended_at", "finished_at"),
}
"""The columns between whose times a batch was in each state; of several posts, the last counts."""

STAY_BOUNDS = (1, 5, 15, 60, 300, 900, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400)
"""Seconds: the buckets of the time spent in a state. Most batches end within an hour, all within a day."""

BEYOND = 1_000_000_000
"""In place of a bound: longer than the last of them."""

ENDS = ("completed", "rejected", "submissions", *OUTCOMES)
"""The columns of the totals."""

_TIMES = sorted({name for pair in STAYS.values() for name in pair})
_READ = [batches.c[name] for name in ("id", "model", "state", "submissions", *OUTCOMES, *_TIMES)]


class Gone(NamedTuple):
    """The ends of all batches of a model so far, and the sums over all, unfinished ones included; each post counts."""

    model: str
    completed: int
    rejected: int
    submissions: int
    succeeded: int
    errored: int
    canceled: int
    expired: int


class Stay(NamedTuple):
    """How long finished batches were in one state: how many within each bound, how many in all, and the total time."""

    state: BatchState
    within: Sequence[int]
    batches: int
    milliseconds: int


Totals = dict[str, Counter[str]]
"""The sums of ENDS by model."""

Stays = dict[tuple[str, int], Counter[str]]
"""The sums of `batches` and `milliseconds` by state and bound."""


def roll_up(connection: sa.Connection, at: Milliseconds) -> int:
    """Add finished batches to the totals, those that finished first; return how many.

    The task `carpool.stage` calls it, one at a time: two would wait for each other, but add no batch twice.
    """
    finished = sa.select(*_READ).where(UNTALLIED, batches.c.finished_at.is_not(None))
    rows = connection.execute(finished.order_by(batches.c.finished_at).limit(TALLIED).with_for_update()).all()
    if not rows:
        return 0
    by_model, by_bound = _ends(rows), _stays(rows)
    totals = [{"model": model, **_of(ENDS, sums)} for model, sums in sorted(by_model.items())]
    upsert(connection, batch_totals, totals, add=ENDS)
    columns = ("batches", "milliseconds")
    stays = [
        {"state": state, "bound": bound, **_of(columns, sums)}
        for (state, bound), sums in sorted(by_bound.items())
    ]
    upsert(connection, batch_stays, stays, add=columns)
    tallied = sa.update(batches).where(batches.c.id.in_([row.id for row in rows]))
    connection.execute(tallied.values(tallied_at=at))
    return len(rows)


def gone(connection: sa.Connection) -> list[Gone]:
    """Sum over all batches so far, by model."""
    totals: Totals = _ends(connection.execute(sa.select(*_READ).where(UNTALLIED)))
    for row in connection.execute(sa.select(batch_totals)).mappings():
        totals[row["model"]].update({name: row[name] for name in ENDS})
    return [Gone(model, *(sums[name] for name in ENDS)) for model, sums in sorted(totals.items())]


def stays(connection: sa.Connection) -> list[Stay]:
    """Return how long all finished batches were in each state, by STAY_BOUNDS."""
    finished = sa.select(*_READ).where(UNTALLIED, batches.c.finished_at.is_not(None))
    sums = _stays(connection.execute(finished))
    for row in connection.execute(sa.select(batch_stays)):
        sums[row.state, row.bound].update(batches=row.batches, milliseconds=row.milliseconds)
    return [_stay(state, sums) for state in STAYS]


def _ends(rows: Iterable[sa.Row[Any]]) -> Totals:
    totals: Totals = defaultdict(Counter)
    for row in rows:
        final = {row.state.value: 1} if row.finished_at is not None else {}
        totals[row.model].update(final | {name: row._mapping[name] for name in ("submissions", *OUTCOMES)})
    return totals


def _stays(rows: Iterable[sa.Row[Any]]) -> Stays:
    sums: Stays = defaultdict(Counter)
    for row in rows:
        for state, (begin, end) in STAYS.items():
            began, ended = row._mapping[begin], row._mapping[end]
            if began is None or ended is None:
                continue
            took = ended - began
            bound = next((bound for bound in STAY_BOUNDS if took <= bound * SECOND), BEYOND)
            # Anthropic's clock and the local one may differ a little.
            sums[state.value, bound].update(batches=1, milliseconds=max(0, took))
    return sums


def _stay(state: BatchState, sums: Stays) -> Stay:
    by_bound = {bound: counts for (name, bound), counts in sums.items() if name == state.value}
    within = accumulate(by_bound.get(bound, Counter())["batches"] for bound in STAY_BOUNDS)
    number, milliseconds = (
        sum(counts[name] for counts in by_bound.values()) for name in ("batches", "milliseconds")
    )
    return Stay(state, list(within), number, milliseconds)


def _of(names: Sequence[str], sums: Counter[str]) -> dict[str, int]:
    return {name: sums[name] for name in names}
