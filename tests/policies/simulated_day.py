"""A day of 1,000,000 requests with deadlines in virtual time, decided by the policies that the worker uses.

Requests that arrive within a step and have the same deadline are counted, not made, so a day takes a second. What is
assumed stands at the top; when a batch is sealed, sent or admitted, and who is called, is decided elsewhere.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from carpool_worker.policies.admission import Ready, fitting
from carpool_worker.policies.deadlines import POSTING_SECONDS, DeadlineRule, Move, decide
from carpool_worker.policies.durations import FADES, LEAST_WEIGHT, Histogram, bucket_of
from carpool_worker.policies.limits import Limits
from carpool_worker.units import SECOND

SEED = 13
REQUESTS = 1_000_000

ARRIVALS = (2, 2, 2, 2, 2, 3, 5, 9, 13, 15, 15, 14, 11, 12, 14, 14, 13, 10, 7, 5, 4, 4, 3, 3)
"""A working day: how many of 184 requests arrive in each hour, evenly within it."""

DEADLINES = (3_600, 7_200)
"""Seconds from the arrival; as many requests have the one as have the other."""

USUAL = (11.5, 0.62)
SLOW = (38.0, 0.85)
SLOW_HOURS = frozenset({12})
"""Batches' durations are log-normal: the median in minutes, and the standard deviation of their logarithm. One hour of
the day is slow. Weighted by the requests, that comes to a median of 12 minutes, 95 % within 40 and 99 % within 90."""

BATCHES_OF_AN_HOUR = 60
"""How many batches of each hour the days before have taught how long they take."""

QUEUE_LIMIT = 20_000
"""Requests that the account may have queued at Anthropic: too few for the busiest hours, if those are slow as well."""

CALLS_A_MINUTE = 2_000
CALL = (15.0, 0.5)
"""The account's rate limit of calls, and how long each takes: log-normal as above, but in seconds."""

FLUSH_INTERVAL = 60.0
POLL_INTERVAL = 30.0
"""Seconds, as by default."""

STEP = 30
"""Seconds between two looks."""

DAY = 86_400

HALF, FULL = 0.5, 1.0
"""The price of a request in a batch and of one that is called, as shares of the list price."""


class Cohort(NamedTuple):
    """Requests that arrived together and have the same deadline."""

    due: int  # seconds since the day began
    wait: int  # which of DEADLINES
    requests: int


@dataclass
class Pooled:
    """A batch: its cohorts, and when it was opened."""

    opened_at: int
    cohorts: list[Cohort] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How many requests it has."""
        return sum(one.requests for one in self.cohorts)

    @property
    def deadline(self) -> int:
        """The earliest."""
        return min(one.due for one in self.cohorts)


@dataclass
class Tally:
    """What became of the requests."""

    asked: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    met: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    answered: int = 0
    called: int = 0
    batches: int = 0

    def share_met(self, wait: int) -> float:
        """How many of the requests with that deadline were answered in time."""
        return self.met[wait] / self.asked[wait]

    @property
    def requests(self) -> int:
        """All of them."""
        return sum(self.asked.values())

    @property
    def share_called(self) -> float:
        """How many paid the full price."""
        return self.called / self.requests

    @property
    def price(self) -> float:
        """What a request cost on average, as a share of the list price."""
        return HALF + (FULL - HALF) * self.share_called


class Durations:
    """How long batches take, and what was learned of it: as store/durations.py does, in memory."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._learned: defaultdict[int, dict[int, float]] = defaultdict(dict)
        for hour in range(24):
            for _ in range(BATCHES_OF_AN_HOUR):
                self.learn(hour, self.draw(hour))

    def draw(self, hour: int) -> float:
        """Return how many seconds a batch takes that is posted in an hour."""
        median, sigma = SLOW if hour in SLOW_HOURS else USUAL
        return 60 * self._random.lognormvariate(math.log(median), sigma)

    def learn(self, hour: int, seconds: float) -> None:
        """Learn from a batch that has ended."""
        faded = {bucket: weight * FADES for bucket, weight in self._learned[hour].items()}
        kept = {bucket: weight for bucket, weight in faded.items() if weight >= LEAST_WEIGHT}
        bucket = bucket_of(seconds)
        self._learned[hour] = kept | {bucket: kept.get(bucket, 0.0) + 1.0}

    def of(self, hour: int) -> Histogram:
        """Return what was learned of an hour."""
        return self._learned[hour]


class SimulatedDay:
    """One day; `run` returns what became of its requests."""

    def __init__(
        self, seed: int = SEED, rule: DeadlineRule | None = None, *, calls_all: bool = False
    ) -> None:
        self._random = Random(seed)
        self._durations = Durations(self._random)
        self._rule = rule  # None: deadlines are not heeded
        self._calls_all = calls_all
        self._limits = Limits(count=100_000, body_bytes=250_000_000, seconds=FLUSH_INTERVAL)
        self._open: Pooled | None = None
        self._sealed: deque[Pooled] = deque()
        self._out: list[tuple[float, int, int, float, Pooled]] = []
        self._queued = 0
        self._calls: deque[Cohort] = deque()
        self._may_call = 0.0
        self._tally = Tally()

    def run(self) -> Tally:
        """Let the day pass, and what is left after it."""
        arriving, now = list(arrivals()), 0
        while now < DAY or self._open or self._sealed or self._out or self._calls:
            self._end(now)
            for cohort in arriving[now // STEP] if now < DAY else ():
                self._tally.asked[cohort.wait] += cohort.requests
                self._accept(cohort, now)
            self._seal(now)
            self._take_out(now)
            self._call(now)
            self._post(now)
            now += STEP
        return self._tally

    def _accept(self, cohort: Cohort, now: int) -> None:
        if self._calls_all:
            self._calls.append(cohort)
            return
        self._open = self._open or Pooled(now)
        self._open.cohorts.append(cohort)

    def _seal(self, now: int) -> None:
        if not self._open:
            return
        is_due = self._limits.due_at(self._open.opened_at * SECOND) <= now * SECOND
        if is_due or self._move(self._open.deadline, now) is not Move.POOL:
            self._sealed.append(self._open)
            self._open = None

    def _move(self, due: int, now: int) -> Move:
        if self._rule is None:
            return Move.POOL
        return decide(due - now, self._durations.of(hour_of(now)), self._rule)

    def _take_out(self, now: int) -> None:
        self._may_call = min(CALLS_A_MINUTE, self._may_call + CALLS_A_MINUTE * STEP / 60)
        room = int(self._may_call) - sum(one.requests for one in self._calls)
        for batch in self._sealed:
            kept = []
            for cohort in batch.cohorts:
                taken = min(room, cohort.requests) if self._move(cohort.due, now) is Move.CALL else 0
                if taken > 0:
                    self._calls.append(cohort._replace(requests=taken))
                    room -= taken
                    cohort = cohort._replace(requests=cohort.requests - taken)
                if cohort.requests:
                    kept.append(cohort)
            batch.cohorts = kept
        self._sealed = deque(batch for batch in self._sealed if batch.cohorts)

    def _call(self, now: int) -> None:
        while self._calls and self._may_call >= 1:
            first = self._calls.popleft()
            called = first._replace(requests=min(first.requests, int(self._may_call)))
            self._may_call -= called.requests
            self._tally.called += called.requests
            median, sigma = CALL
            self._answer(called, now + self._random.lognormvariate(math.log(median), sigma))
            if called.requests < first.requests:
                self._calls.appendleft(first._replace(requests=first.requests - called.requests))

    def _post(self, now: int) -> None:
        ready = [Ready(str(number), "lane", batch.size) for number, batch in enumerate(self._sealed)]
        for _ in fitting(ready, QUEUE_LIMIT - self._queued, QUEUE_LIMIT):
            batch = self._sealed.popleft()
            took = self._durations.draw(hour_of(now))
            self._queued += batch.size
            self._tally.batches += 1
            heapq.heappush(self._out, (now + took, self._tally.batches, now, took, batch))

    def _end(self, now: int) -> None:
        while self._out and self._out[0][0] <= now:
            ended_at, _, posted_at, took, batch = heapq.heappop(self._out)
            self._queued -= batch.size
            self._durations.learn(hour_of(posted_at), took)
            for cohort in batch.cohorts:
                self._answer(cohort, ended_at + self._random.uniform(0, POLL_INTERVAL))

    def _answer(self, cohort: Cohort, at: float) -> None:
        self._tally.answered += cohort.requests
        if at + POSTING_SECONDS / 2 <= cohort.due:
            self._tally.met[cohort.wait] += cohort.requests


def arrivals() -> Iterator[Sequence[Cohort]]:
    """Yield what arrives in each step of the day."""
    steps_an_hour = 3_600 // STEP
    total, so_far = sum(ARRIVALS) * steps_an_hour, 0
    before = [0] * len(DEADLINES)
    for step in range(DAY // STEP):
        so_far += ARRIVALS[step // steps_an_hour]
        until_now = REQUESTS * so_far // total
        each = [(until_now + number) // len(DEADLINES) for number in range(len(DEADLINES))]
        counts = zip(DEADLINES, each, before, strict=True)
        yield [Cohort(step * STEP + wait, wait, now - then) for wait, now, then in counts if now > then]
        before = each


def hour_of(now: int) -> int:
    """Return the hour of the day."""
    return now // 3_600 % 24


def table(days: dict[str, Tally]) -> str:
    """Return the days in one table."""
    heads = " | ".join(f"met of {wait // 3_600} h" for wait in DEADLINES)
    lines = [f"| | {heads} | full price | cost, of the list price | batches |", "|---|---|---|---|---|---|"]
    for name, day in days.items():
        met = " | ".join(f"{day.share_met(wait):.2%}" for wait in DEADLINES)
        lines.append(f"| {name} | {met} | {day.share_called:.2%} | {day.price:.2%} | {day.batches:,} |")
    return "\n".join(lines)


RULE = DeadlineRule(overhead=POSTING_SECONDS + POLL_INTERVAL)

DAYS: dict[str, Callable[[int], SimulatedDay]] = {
    "With deadlines": lambda seed: SimulatedDay(seed, RULE),
    "Without": SimulatedDay,
    "All in real time": lambda seed: SimulatedDay(seed, calls_all=True),
}


def main(seeds: Sequence[int] = (SEED,)) -> None:
    """Print the days of each seed."""
    for seed in seeds:
        print(f"seed {seed}\n{table({name: day(seed).run() for name, day in DAYS.items()})}\n")


if __name__ == "__main__":
    main(range(SEED, SEED + 5))
