"""Measures each stage and the whole way: `python -m tests.bench [STAGE…] [--count N] [--database KIND]`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from rich.console import Console
from tests.bench import capacity, progress, report
from tests.bench.capacity import POSTGRESQL
from tests.bench.places import DATABASES
from tests.bench.rows import Row
from tests.bench.stages import CAPACITY, CAPACITY_COUNT, DEFAULT, STAGES, Run
from tests.chaos.time_limits import OutOfTime, limited

from carpool_worker.formatting import age
from carpool_worker.units import SECOND

WIDTH = 170
"""Columns of the tables where the output is no terminal."""

LONGEST_STAGE_SECONDS = 900.0
"""After which a stage that says nothing of its time is ended."""


def main() -> None:
    """Run the stages, and print the tables."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended so too, it leaves nothing behind
    arguments = _arguments()
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    databases = [arguments.database] if arguments.database else list(DATABASES)
    stages = arguments.stages or DEFAULT
    rows: list[Row] = []
    for name in stages:
        if name in STAGES:
            rows += _run(console, name, arguments.count, databases)
    for table in (report.table(rows), report.pages(rows), report.processes(rows), report.sizes(rows)):
        if table.row_count:
            console.print(table)
    if CAPACITY in stages:
        rows += _missing_for_capacity(console, rows)
        if missing := capacity.missing(rows):
            console.print(f"No capacity without {', '.join(sorted(missing))}.")
        else:
            console.print(capacity.table(rows))


def _run(console: Console, name: str, count: int | None, databases: Sequence[str]) -> list[Row]:
    stage = STAGES[name]
    console.print(f"{name}: {stage.what}")
    if stage.seconds:
        console.print(f"  {age(stage.seconds * SECOND)} at most, then it is ended; Ctrl-C ends it earlier.")
    found = []
    try:
        with limited(stage.seconds or LONGEST_STAGE_SECONDS), progress.shown(console) as bar:
            for row in stage.run(Run(count or stage.count, databases, bar)):
                found.append(row)
                console.print(f"  {report.sentence(row)}")
    except OutOfTime:
        console.print("  [red]out of time[/]: what follows is missing")
    return found


def _missing_for_capacity(console: Console, rows: Sequence[Row]) -> list[Row]:
    missing = capacity.missing(rows)
    found = []
    for name, needed in capacity.MEASURED.items():
        if missing & needed:
            found += _run(console, name, min(STAGES[name].count, CAPACITY_COUNT), [POSTGRESQL])
    return found


def _arguments() -> argparse.Namespace:
    described = [f"  {name:<10} {stage.what}" for name, stage in STAGES.items()]
    described.append(f"  {CAPACITY:<10} What a billion requests a day take, computed from the stages' costs")
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        epilog="\n".join(["stages:", *described, f"\nby default: {' '.join(DEFAULT)}"]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="what to measure; see below")
    parser.add_argument("--count", type=int, help="requests of each stage, instead of its own number")
    parser.add_argument("--database", choices=list(DATABASES), help="only on this one")
    arguments = parser.parse_args()
    if unknown := set(arguments.stages) - {*STAGES, CAPACITY}:
        parser.error(f"no such stage: {', '.join(sorted(unknown))}")
    return arguments


if __name__ == "__main__":
    main()
