"""The runs of a whole: one after the other, each within its limit, until all are made or the time is up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tests.chaos.scenario import Outcome, Scenario
from tests.chaos.time_limits import OutOfTime, limited, run_limit, whole_limit

Make = Callable[[Scenario, str], Outcome]


class Runs:
    """What was planned, and the outcomes so far."""

    def __init__(self, planned: Sequence[tuple[Scenario, str]], minutes: float, seed: int) -> None:
        self.planned = planned
        self.seed = seed
        self.outcomes: list[Outcome] = []
        self.limit = whole_limit(planned, minutes)
        self._minutes = minutes
        self._over: float | None = None  # when there is no time for anything more, by the monotonic clock

    @property
    def seconds_left(self) -> float:
        """How long all the rest may take."""
        return self.limit if self._over is None else self._over - time.monotonic()

    @property
    def not_reached(self) -> list[str]:
        """The runs that were not made, or not to their end."""
        return [f"{scenario.name}, {database}" for scenario, database in self.planned[len(self.outcomes) :]]

    @property
    def broken(self) -> int:
        """How many promises were broken so far."""
        return sum(len(outcome.broken) for outcome in self.outcomes)

    def make_all(self, make: Make, after_each: Callable[[Outcome], None] = lambda _: None) -> None:
        """Make every run that there is time for; one that fails, or takes longer than its own limit, is broken."""
        self._over = time.monotonic() + self.limit
        for scenario, database in self.planned:
            if (outcome := self._make(make, scenario, database, self.seconds_left)) is None:
                return
            self.outcomes.append(outcome)
            after_each(outcome)

    def _make(self, make: Make, scenario: Scenario, database: str, left: float) -> Outcome | None:
        own = run_limit(scenario, self._minutes)
        try:
            with limited(min(own, left)):
                return make(scenario, database)
        except OutOfTime:
            if left < own:
                return None
            late = f"not over after {own:.0f} s"
            return Outcome(scenario.name, database, self.seed, seconds=own, broken=[late])
        except Exception as error:
            failed = f"the run itself failed: {type(error).__name__}: {error}"
            return Outcome(scenario.name, database, self.seed, broken=[failed])
