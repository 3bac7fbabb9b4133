"""Measures each stage and the whole way: `python -m tests.bench [STAGE…] [--count N]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.table import Table
from tests.bench import by_hand, courier, places, producer
from tests.bench.agents import COUNT, Agents
from tests.bench.rows import Row
from tests.bench.traffic import SIZE
from tests.bench.whole_way import run

MEGABYTE = 1_000_000
WIDTH = 170
"""Columns of the table where the output is no terminal."""


def agents(count: int) -> Iterator[Row]:
    """Aggregate, submit and collect, on either database."""
    for new_databases in places.DATABASES.values():
        with (
            places.valkey() as server,
            places.simulator() as simulator,
            new_databases() as new_database,
            places.engines(new_database, 2) as (engine, spare),
        ):
            yield from Agents(engine, spare, server, simulator.url).run(count)


def enqueue(count: int) -> Iterator[Row]:
    """Enqueue many at once, and one by one."""
    with places.valkey() as server:
        yield from producer.run(places.url_of(server), count)


def webhooks(count: int) -> Iterator[Row]:
    """Deliver answers to a receiver, on either database."""
    for new_databases in places.DATABASES.values():
        with new_databases() as new_database, places.engines(new_database, 1) as (engine,):
            yield from courier.run(engine, count)


def whole_way(count: int) -> Iterator[Row]:
    """Enqueue in one process and take the answers there, everything of `carpool up` in between."""
    for kind, new_databases in places.DATABASES.items():
        with new_databases() as new_database:
            with (
                places.valkey() as server,
                places.simulator() as simulator,
                places.engines(new_database, 1) as (spare,),
            ):
                bare_seconds = by_hand.seconds(server, spare, simulator.url, count, SIZE)
            yield run(new_database() if kind == "postgresql" else None, bare_seconds, count)


STAGES: dict[str, tuple[Callable[[int], Iterator[Row]], int]] = {
    "enqueue": (enqueue, COUNT),
    "agents": (agents, COUNT),
    "webhooks": (webhooks, 10_000),
    "way": (whole_way, COUNT),
}
"""What runs by default, and how many requests it takes."""


def main() -> None:
    """Run the stages, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(STAGES)}; all by default")
    parser.add_argument("--count", type=int, help="requests for each stage")
    arguments = parser.parse_args()
    if unknown := set(arguments.stages) - STAGES.keys():
        parser.error(f"no such stage: {', '.join(unknown)}")
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    rows = []
    for name in arguments.stages or STAGES:
        run, count = STAGES[name]
        with console.status(f"{name} …"):
            for row in run(arguments.count or count):
                rows.append(row)
                console.print(f"  {row.stage}: {row.rate:,.0f} a second")
    console.print(table(rows))


def table(rows: list[Row]) -> Table:
    """Return the table of all rows."""
    found = Table("stage")
    for column in ("requests", "seconds", "a second", "aim", "CPU µs each", "× bare"):
        found.add_column(column, justify="right")
    found.add_column("bare: a second, what")
    found.add_column("peak memory, MB")
    for row in rows:
        found.add_row(row.stage, *_figures(row), _bare(row), _peaks(row))
    return found


def _figures(row: Row) -> list[str]:
    return [
        f"{row.count:,}",
        f"{row.seconds:,.2f}",
        _rate(row),
        f"{row.aim:,.0f}" if row.aim else "",
        f"{row.cpu_seconds / row.count * 1e6:,.0f}" if row.cpu_seconds else "",
        f"{row.ratio:.2f}",
    ]


def _rate(row: Row) -> str:
    color = "green" if row.aim is None or row.rate >= row.aim else "red"
    return f"[{color}]{row.rate:,.0f}[/{color}]"


def _bare(row: Row) -> str:
    return f"{row.count / row.bare_seconds:,.0f}: {row.bare}"


def _peaks(row: Row) -> str:
    return ", ".join(f"{name} {peak / MEGABYTE:,.0f}" for name, peak in row.peaks.items())


if __name__ == "__main__":
    main()
