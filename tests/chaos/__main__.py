"""Attacks Carpool and counts what became of its promises: `python -m tests.chaos [--minutes 5] [--only NAME]`."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text
from tests.chaos import (
    api_keys,
    backups,
    bystanders,
    crash_points,
    frozen,
    gateways,
    luck,
    outages,
    outages_of_databases,
    quotas,
    real_time,
    receivers,
    relays,
    report,
    shared_redis,
)
from tests.chaos.runs import Runs
from tests.chaos.scenario import BOTH, SCENARIOS, Outcome, Scenario, run
from tests.chaos.stack import Stack
from tests.chaos.time_limits import STOP_SECONDS

from carpool_worker.formatting import age, counted
from carpool_worker.units import SECOND

ATTACKS = (
    crash_points,
    frozen,
    bystanders,
    api_keys,
    outages,
    outages_of_databases,
    shared_redis,
    receivers,
    relays,
    backups,
    gateways,
    real_time,
    quotas,
    luck,
)
"""The modules whose scenarios are run."""

WALKS = (crash_points.kill_child, crash_points.kill_worker, crash_points.terminate_worker)

REPORT = Path(".carpool/chaos")
REFRESH_SECONDS = 0.5
MOST_SEEDS = 1_000_000


class Display:
    """What is going on: live on a terminal; else a line when a run begins, and one when it has ended."""

    def __init__(self, console: Console, runs: Runs) -> None:
        self._console = console
        self._runs = runs
        self._live = Live(console=console, transient=True) if console.is_terminal else None
        self._title = ""
        self._began = time.monotonic()
        self._stack: Stack | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._refresh, daemon=True)

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._live:
            self._live.stop()

    def begin(self, title: str) -> None:
        """Display this scenario from now on."""
        self._title, self._stack, self._began = f"{self._place()} {title}", None, time.monotonic()
        if not self._live:
            self._console.print(self._title, markup=False)

    def watch(self, stack: Stack) -> None:
        """Display this stack's counts."""
        self._stack = stack

    def end(self, outcome: Outcome) -> None:
        """Print a scenario's outcome."""
        self._stack = None
        mark = "[red]broken[/]" if outcome.broken else "[green]kept[/]"
        faults = sum(outcome.faults.values())
        self._console.print(
            f"{mark} {self._title}: {outcome.accepted:,} accepted, {faults:,} faults, {outcome.seconds:.0f} s"
        )
        for sentence in outcome.broken:
            self._console.print(f"  {sentence}", markup=False)

    def _refresh(self) -> None:
        while self._live and not self._over.wait(REFRESH_SECONDS):
            self._live.update(Text(f"{self._title} · {time.monotonic() - self._began:.0f} s{self._counts()}"))

    def _place(self) -> str:
        """Return which run of how many this is, and when the last of them is over at the latest."""
        runs = self._runs
        ends = f"over by {time.strftime('%H:%M', time.localtime(time.time() + runs.seconds_left))}"
        return f"[{len(runs.outcomes) + 1} of {len(runs.planned)}, {ends}]"

    def _counts(self) -> str:
        if not (stack := self._stack):
            return " · starting"
        back = len(stack.receiver.taken) + len(stack.consumer.received) + len(stack.traffic.answered)
        return (
            f" · {len(stack.traffic.accepted):,} accepted · {back:,} back · {stack.injected.total():,} faults"
        )


def main() -> int:
    """Run the scenarios, print the table, write the report; 1 if a promise was broken or a run was not reached."""
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # ended by SIGTERM too, it leaves nothing behind
    arguments = _arguments()
    console = Console(soft_wrap=True, highlight=False)
    runs = Runs(_chosen(arguments), arguments.minutes, arguments.seed)
    console.print(announcement(runs))
    _end_at_last(runs.limit + STOP_SECONDS)
    with Display(console, runs) as display, suppress(KeyboardInterrupt):

        def make(scenario: Scenario, database: str) -> Outcome:
            display.begin(f"{scenario.name}, {database}")
            kept = arguments.report / "logs" / f"{scenario.name} {database}"
            watch, minutes = display.watch, arguments.minutes
            return run(scenario, database, arguments.seed, minutes, watch, kept, arguments.load)

        def end(outcome: Outcome) -> None:
            display.end(outcome)
            report.write(arguments.report, runs)  # whatever comes, it is there

        runs.make_all(make, end)
    console.print(report.table(runs.outcomes))
    console.print(report.LEGEND, markup=False)
    for name in runs.not_reached:
        console.print(f"Not reached: {name}", markup=False)
    path = report.write(arguments.report, runs)
    console.print(
        f"{runs.broken} promises broken in {counted(len(runs.outcomes), 'run')}. The report: {path}"
    )
    return 1 if runs.broken or runs.not_reached or not runs.outcomes else 0


def announcement(runs: Runs) -> str:
    """Return what is said before the first run: how long it all takes at most."""
    longest = age((runs.limit + STOP_SECONDS) * SECOND)
    return (
        f"{counted(len(runs.planned), 'run')}, {longest} at most; what is not reached by then is named in the report.\n"
        f"Seed {runs.seed}. Ctrl-C stops it; the report has what was done until then."
    )


def _end_at_last(seconds: float) -> None:
    # Should even stopping hang: the report of the runs made so far is written already.
    last = threading.Timer(seconds, os._exit, (os.EX_TEMPFAIL,))
    last.daemon = True
    last.start()


def _chosen(arguments: argparse.Namespace) -> Sequence[tuple[Scenario, str]]:
    databases = BOTH if arguments.database == "both" else (arguments.database,)
    return [
        (scenario, database)
        for scenario in SCENARIOS
        if not arguments.only or arguments.only.lower() in scenario.name.lower()
        for database in scenario.databases
        if database in databases
    ]


def lengths() -> str:
    """Return, for --help, how long each scenario attacks, and on which databases."""
    rows = [
        f"  {scenario.name:<56} {' '.join(scenario.databases):<18} {_length(scenario)}"
        for scenario in SCENARIOS
    ]
    return "\n".join(["how long each scenario attacks at most, on each of its databases:", *rows])


def _length(scenario: Scenario) -> str:
    if scenario.seconds is None:
        until = ", or until every point has struck" if scenario in WALKS else ""
        return f"--minutes{until}"
    return f"{scenario.seconds:.0f} s"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=__doc__,
        epilog=lengths(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--minutes", type=float, default=5.0, help="how long luck and walks last at most, see below"
    )
    parser.add_argument(
        "--load",
        type=int,
        default=1,
        metavar="N",
        help="let N times as many requests flow (some 100 a second)",
    )
    parser.add_argument("--database", choices=[*BOTH, "both"], default="both")
    parser.add_argument("--only", metavar="NAME", help="only the scenarios whose name contains this")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(MOST_SEEDS))
    parser.add_argument(
        "--report", type=Path, default=REPORT, help="the folder that the report is written to"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
