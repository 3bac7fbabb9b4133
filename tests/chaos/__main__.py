"""Attacks Carpool and counts what became of its promises: `python -m tests.chaos [--minutes 5] [--only NAME]`."""

from __future__ import annotations

import argparse
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
from tests.chaos import bystanders, crash_points, luck, outages, outages_of_databases, report
from tests.chaos.scenario import BOTH, SCENARIOS, Outcome, Scenario, run
from tests.chaos.stack import Stack

ATTACKS = (crash_points, bystanders, outages, outages_of_databases, luck)
"""The modules whose scenarios are run."""

REPORT = Path(".carpool/chaos")
REFRESH_SECONDS = 0.5
MOST_SEEDS = 1_000_000


class Display:
    """What goes on now: live on a terminal, else a line for each scenario."""

    def __init__(self, console: Console) -> None:
        self._console = console
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
        """Show a scenario from now on."""
        self._title, self._stack, self._began = title, None, time.monotonic()

    def watch(self, stack: Stack) -> None:
        """Show this stack's counts."""
        self._stack = stack

    def end(self, outcome: Outcome) -> None:
        """Print what became of a scenario."""
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

    def _counts(self) -> str:
        if not (stack := self._stack):
            return " · starting"
        back = len(stack.receiver.taken) + len(stack.consumer.received) + len(stack.traffic.answered)
        return (
            f" · {len(stack.traffic.accepted):,} accepted · {back:,} back · {stack.injected.total():,} faults"
        )


def main() -> int:
    """Run the scenarios, print the table, write the report; 1 if a promise was broken."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends it, nothing is left behind
    arguments = _arguments()
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"Seed {arguments.seed}. Ctrl-C stops it; the report says what was done until then.")
    outcomes: list[Outcome] = []
    with Display(console) as display, suppress(KeyboardInterrupt):
        for scenario, database in _chosen(arguments):
            display.begin(f"{scenario.name}, {database}")
            kept = arguments.report / "logs" / f"{scenario.name} {database}"
            outcome = run(scenario, database, arguments.seed, arguments.minutes, display.watch, kept)
            display.end(outcome)
            outcomes.append(outcome)
    console.print(report.table(outcomes))
    path = report.write(arguments.report, outcomes, arguments.seed)
    broken = sum(len(one.broken) for one in outcomes)
    console.print(f"{broken} promises broken in {len(outcomes)} runs. The report: {path}", soft_wrap=True)
    return 1 if broken or not outcomes else 0


def _chosen(arguments: argparse.Namespace) -> Sequence[tuple[Scenario, str]]:
    databases = BOTH if arguments.database == "both" else (arguments.database,)
    return [
        (scenario, database)
        for scenario in SCENARIOS
        if not arguments.only or arguments.only.lower() in scenario.name.lower()
        for database in scenario.databases
        if database in databases
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long luck lasts, on each database")
    parser.add_argument("--database", choices=[*BOTH, "both"], default="both")
    parser.add_argument("--only", metavar="NAME", help="scenarios whose name has this in it")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(MOST_SEEDS))
    parser.add_argument(
        "--report", type=Path, default=REPORT, help="the folder that the report is written to"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
