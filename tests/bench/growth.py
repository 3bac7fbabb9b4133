"""What the next requests cost on none, a million and five million finished ones, on either database."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import sqlalchemy as sa
from tests.bench import payloads, places
from tests.bench.agents import AGENT, Agents, Servers, servers
from tests.bench.disk import checkpoint
from tests.bench.history import History
from tests.bench.meter import measured
from tests.bench.places import NewDatabase
from tests.bench.progress import Bar
from tests.bench.rows import Row, at_most

from carpool_worker.database import write
from carpool_worker.models.requests import FILLFACTOR
from carpool_worker.store import usage

NEXT = 20_000
FINISHED = (0, 1_000_000, 5_000_000)
ROUNDS = 3
GROWTH_AIM = 1.10
"""Times the CPU on none."""

FINISHED_FILLFACTOR = 56
"""Percent: with it a page has 27 or 28 finished requests, as where the agents wrote them."""

DISK_BYTES = 9_000
"""A finished request takes at most, its WAL and what is there twice for a moment included."""

SLOWEST_WRITE, SLOWEST_ROUND = 8_000, 30.0
"""Finished requests a second, and seconds of a round, that the announcement is based on; a busy machine included."""


def longest_seconds() -> float:
    """Return how long it takes at most, about."""
    rounds = (ROUNDS * len(FINISHED) + 1) * SLOWEST_ROUND
    return len(places.DATABASES) * (sum(FINISHED) / SLOWEST_WRITE + rounds)


def run(count: int, databases: Sequence[str], bar: Bar) -> Iterator[Row]:
    """Yield a row for each database and number of finished requests; `count` replaces the largest number."""
    levels = (*(level for level in FINISHED if level < count), count)
    _check_disk(count)
    for kind in databases:
        with servers() as beside, places.DATABASES[kind]() as new_database:
            yield from _on(new_database, beside, levels, bar)


def _on(new_database: NewDatabase, beside: Servers, levels: tuple[int, ...], bar: Bar) -> Iterator[Row]:
    first = 0.0
    with places.engines(new_database, 1) as (source,):
        _finish(source, beside)
        history = History(source)
    for level in levels:
        with places.engines(new_database, 1) as (engine,):
            kind = engine.dialect.name
            what = f"{kind}: {level:,} finished requests written"
            with _pages_as_full_as_agents_leave_them(engine):
                there = history.write(engine, level, lambda share, what=what: bar.show(what, share))  # type: ignore[misc]
            settle(engine)
            bar.show(f"{kind}: the next {NEXT:,} on {there:,}", 1.0)
            row = _next(engine, beside, there)
        if level == 0:
            first = _cpu_each(row)
            yield row
        else:
            growth = at_most(_cpu_each(row) / first, GROWTH_AIM, "× the CPU on none")
            yield replace(row, aims=(growth,))


def _next(engine: sa.Engine, beside: Servers, there: int) -> Row:
    """Return the round with the median CPU time."""
    agents = Agents(engine, beside)
    rounds = []
    for _ in range(ROUNDS):
        checkpoint(engine)
        agents.enqueue(payloads.prose(NEXT))
        with measured(agents.processes) as spent:
            agents.finish_queued(NEXT)
        cpu = {name: seconds for name, seconds in spent.cpu.items() if name in (AGENT, "postgresql")}
        stage = f"the next {NEXT:,} on {there:,}"
        rounds.append(Row(stage, engine.dialect.name, NEXT, spent.seconds, cpu=cpu))
    agents.close()
    return sorted(rounds, key=_cpu_each)[ROUNDS // 2]


def _finish(engine: sa.Engine, beside: Servers) -> None:
    agents = Agents(engine, beside)
    agents.finish(payloads.prose(NEXT))
    agents.close()
    with write(engine) as connection:
        usage.roll_up(connection)  # as the stager does: the ledger grows by days, not by requests


@contextmanager
def _pages_as_full_as_agents_leave_them(engine: sa.Engine) -> Iterator[None]:
    """Have PostgreSQL fill its pages as far as if each request had been inserted first, and updated when it ended.

    A request grows at its end, into the room that the fill factor has left in its page. Finished ones, inserted as
    such, leave more: just enough for a new request in each old page, which would be read and logged for it.
    """
    if engine.dialect.name == "postgresql":
        _set_fill_factor(engine, FINISHED_FILLFACTOR)
    yield
    if engine.dialect.name == "postgresql":
        _set_fill_factor(engine, FILLFACTOR)


def _set_fill_factor(engine: sa.Engine, percent: int) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE requests SET (fillfactor = {percent})")


def settle(engine: sa.Engine) -> None:
    """Do what autovacuum would have done by now."""
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
    checkpoint(engine)


def _cpu_each(row: Row) -> float:
    return sum(row.cpu_each.values())


def _check_disk(count: int) -> None:
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < count * DISK_BYTES:
        raise SystemExit(
            f"{count:,} requests take up to {count * DISK_BYTES / 1e9:.0f} GB; {free / 1e9:.0f} GB are free."
        )
