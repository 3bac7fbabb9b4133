"""A database full of busy days, for what pages cost on it: one made-up day, written again and again at other times.

All clients, models, batches, deliveries, errors and usage are those of tests/fixtures/busy_day.py. Into the oldest
copies goes what is rare: a client and a tag that nothing else has, which a search from the newest on finds last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from tests.bench import bare
from tests.bench.history import Shift, is_identifier
from tests.fixtures import busy_day

from carpool_worker.models import tables
from carpool_worker.states import DeliveryState
from carpool_worker.store.requests.segments import RANDOM_BITS
from carpool_worker.units import DAY

DAYS = 6
"""Over which the copies are spread, before the day that they are copies of."""

BATCHES = 100
"""Completed ones of the day that is copied."""

RARE, RARE_COPIES = "archive", 2
"""A client, and a tag, that only so many of the oldest copies have."""

TIMES = {"at", "deadline", "submit_by", "ends_after"}
"""Columns with times, beside those whose names end in _at."""

COPIED = (
    tables.batches,
    tables.segments,
    tables.params,
    tables.answers,
    tables.requests,
    tables.deliveries,
    tables.attempts,
    tables.tags,
)

TROUBLED_COPIES = 10
"""One in so many copies has deliveries that were given up; what is still to be tried again is not copied at all."""

Rows = list[tuple[Any, ...]]


class BusyDays:
    """What had ended on a busy day, to be written many times over."""

    def __init__(self, source: sa.Engine) -> None:
        self._engine = source
        self._tables = {table.name: list(self._ended(table)) for table in COPIED}
        self.requests = len(self._tables["requests"])

    def write(self, target: sa.Engine, count: int, show: Callable[[float], None]) -> int:
        """Write at least `count` requests into a database, the oldest first; return how many."""
        copies = -(-count // self.requests)
        for number in range(copies, 0, -1):
            with target.begin() as connection:
                for name, rows in self._copy(number, copies).items():
                    bare.insert(connection, name, _columns(name), rows)
            show((copies - number + 1) / copies)
        return copies * self.requests

    def _ended(self, table: sa.Table) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of what had ended, as the driver has them."""
        finished = sa.select(tables.batches.c.id).where(tables.batches.c.finished_at.is_not(None))
        requests = sa.select(tables.requests).where(tables.requests.c.batch_id.in_(finished)).subquery().c
        of_its_table: Mapping[str, sa.ColumnElement[bool]] = {
            "batches": tables.batches.c.id.in_(finished),
            "segments": tables.segments.c.id.in_(sa.select(requests.segment_id)),
            "params": tables.params.c.id.in_(sa.select(requests.segment_id)),
            "answers": tables.answers.c.id.in_(sa.select(requests.answer_id)),
            "requests": tables.requests.c.batch_id.in_(finished),
            "deliveries": tables.deliveries.c.answer_id.in_(sa.select(requests.answer_id)),
            "delivery_attempts": tables.attempts.c.request_id.in_(sa.select(requests.id)),
            "tags": tables.tags.c.request_id.in_(sa.select(requests.id)),
        }
        raw = [sa.type_coerce(table.c[name], sa.types.NULLTYPE).label(name) for name in _columns(table.name)]
        with self._engine.connect() as connection:
            for row in connection.execute(sa.select(*raw).where(of_its_table[table.name])):
                yield tuple(row)

    def _copy(self, number: int, copies: int) -> dict[str, Rows]:
        back = number * DAYS * DAY // copies
        shift = Shift(back, back << RANDOM_BITS, number)
        renamed = {"research": RARE, "nightly": RARE} if number > copies - RARE_COPIES else {}
        found = {name: _moved(name, rows, shift, back, renamed) for name, rows in self._tables.items()}
        states = {DeliveryState.DELIVERED, *([] if number % TROUBLED_COPIES else [DeliveryState.DISCARDED])}
        place = _columns("deliveries").index("state")
        found["deliveries"] = [row for row in found["deliveries"] if row[place] in states]
        return found


def fill(source: sa.Engine, target: sa.Engine, count: int, show: Callable[[float], None]) -> int:
    """Fill two empty databases: one with the day, the other with that and its copies; return how many requests."""
    busy_day.fill(source, batches=BATCHES)
    bare.copy_rows(source, target)
    if target.dialect.name == "postgresql":
        with target.begin() as connection:  # else it would count from 1 again
            counter = "pg_get_serial_sequence('delivery_attempts', 'id')"
            connection.exec_driver_sql(f"SELECT setval({counter}, max(id)) FROM delivery_attempts")
    return BusyDays(source).write(target, count, show)


def _moved(name: str, rows: Rows, shift: Shift, back: int, renamed: Mapping[str, str]) -> Rows:
    columns = _columns(name)
    ids = [place for place, column in enumerate(columns) if is_identifier(column)]
    times = [place for place, column in enumerate(columns) if column in TIMES or column.endswith("_at")]
    words = [place for place, column in enumerate(columns) if renamed and column in ("client", "tag")]
    found = []
    for row in rows:
        moved = list(row)
        for place in ids:
            moved[place] = shift(moved[place])
        for place in times:
            if moved[place]:
                moved[place] -= back
        for place in words:
            moved[place] = renamed.get(moved[place], moved[place])
        found.append(tuple(moved))
    return found


def _columns(table: str) -> list[str]:
    """Return the columns that are copied: all, without the numbers that a database gives by itself."""
    return [name for name in bare.columns(table) if (table, name) != ("delivery_attempts", "id")]
