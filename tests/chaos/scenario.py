"""How a scenario is written, and run.

A scenario is a function that attacks a running Stack while requests flow; what it does not do is clean up or check.
Put it into a module of this folder and name the module in `__main__.ATTACKS`:

    @scenario("Valkey killed with -9", seconds=30, databases=("sqlite",), CARPOOL_FLUSH_INTERVAL="1")
    def valkey_killed(stack: Stack) -> None:
        for _ in range(3):
            sleep(stack.luck.uniform(1, 3))        # luck is seeded: use no other
            stack.valkey.kill()                    # the keeper starts it again; stop() and start() where it stays away
            stack.inject("valkey killed with -9")  # counts, for the report

`seconds` is how long the attack takes at most, or None where it lasts for `stack.minutes`, which is --minutes.
The stack starts with traffic flowing (`stack.traffic.stop()` and `.send(n)` where a scenario wants its own), and
with short intervals (programs.QUICK_SETTINGS, mortal.SHORTENED; keywords of @scenario win). Afterwards `run` heals all,
waits until everything is final and delivered, and has the books audited. As a test:

    assert run(valkey_killed, "sqlite", seed=1).broken == []
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.chaos.books import Books, audit
from tests.chaos.repeats import settle_repeats, without
from tests.chaos.settling import ANSWERS_SECONDS, settle
from tests.chaos.stack import Stack, running

from carpool import CarpoolError

BOTH = ("sqlite", "postgresql")

Attack = Callable[[Stack], None]


@dataclass(frozen=True)
class Scenario:
    """An attack: how long it takes at most, on which databases, with how many workers and with what settings."""

    name: str
    attack: Attack
    seconds: float | None = None  # None: as long as --minutes says
    databases: tuple[str, ...] = BOTH
    workers: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)


SCENARIOS: list[Scenario] = []
"""All that were imported, in order."""


def scenario(
    name: str,
    *,
    seconds: float | None = None,
    databases: tuple[str, ...] = BOTH,
    workers: int = 1,
    **environment: str,
) -> Callable[[Attack], Scenario]:
    """Make a scenario of an attack."""

    def make(attack: Attack) -> Scenario:
        made = Scenario(name, attack, seconds, databases, workers, environment)
        SCENARIOS.append(made)
        return made

    return make


@dataclass
class Outcome:
    """The figures of one run, and the promises that it broke. Dollars are strings, exact."""

    scenario: str
    database: str
    seed: int
    seconds: float = 0.0
    accepted: int = 0
    unknown: int = 0  # the producer was told that nobody knows; each is there whole or not at all
    final: dict[str, int] = field(default_factory=dict)
    ran_twice: int = 0
    billed: int = 0
    distinct: int = 0
    delivered: dict[str, int] = field(default_factory=dict)
    duplicates: dict[str, int] = field(default_factory=dict)
    billed_dollars: str = ""
    booked_dollars: str = ""
    faults: dict[str, int] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def run(
    scenario: Scenario,
    database: str,
    seed: int,
    minutes: float = 1.0,
    watch: Callable[[Stack], None] = lambda _: None,
    keep: Path | None = None,
    load: int = 1,
) -> Outcome:
    """Run a scenario, with `load` times the usual traffic, and audit the books.

    `watch` gets the stack once it is up; `keep` is a folder for logs and tables if a promise is broken.
    """
    began = time.monotonic()
    outcome = Outcome(scenario.name, database, seed)
    with running(database, Random(seed), scenario.workers, Stack, **scenario.environment) as stack:
        stack.minutes = minutes
        watch(stack)
        stack.traffic.load = load
        stack.traffic.flow()
        scenario.attack(stack)
        stack.heal()
        late = settle(stack)
        silent = _last_answers(stack)
        twice = settle_repeats(stack)
        books = stack.books()
        books.entries = without(books.entries, twice)
        outcome.broken = [sentence for sentence in (late, silent) if sentence] + audit(books)
        _count(outcome, stack, books)
        if outcome.broken and keep:
            shutil.copytree(stack.folder, keep, ignore=_all_but_logs, dirs_exist_ok=True)
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome


def _last_answers(stack: Stack) -> str | None:
    try:
        stack.traffic.wait_for_answers(ANSWERS_SECONDS)
    except CarpoolError as error:
        return f"the last answers: {error}"
    return None


def _count(outcome: Outcome, stack: Stack, books: Books) -> None:
    outcome.accepted, outcome.unknown = len(books.accepted), len(books.unknown)
    outcome.final = dict(books.states)
    outcome.ran_twice, outcome.billed = len(books.ran_twice), len(books.succeeded)
    outcome.distinct = len({entry["custom_id"] for entry in books.succeeded})
    outcome.delivered = {channel: len(counts) for channel, counts in books.arrived.items()}
    outcome.duplicates = {channel: counts.total() - len(counts) for channel, counts in books.arrived.items()}
    outcome.billed_dollars, outcome.booked_dollars = str(books.billed_dollars), str(books.booked_dollars)
    outcome.faults = dict(stack.injected)
    outcome.refusals = dict(stack.traffic.refusals)
    outcome.notes = [*stack.notes, *_of_calls(books)]


def _of_calls(books: Books) -> list[str]:
    if not books.calls:
        return []
    states = Counter(call.state for call in books.calls)
    counts = ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))
    lost = len(books.lost_answers)
    both = len(books.succeeded) - len({entry["custom_id"] for entry in books.succeeded})
    return [
        f"calls in real time: {counts}; {lost:,} lost answers were billed, and {both:,} both ways as asked for"
    ]


def _all_but_logs(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if not name.endswith((".log", ".db", ".db-wal", ".ledger"))}
