"""Decides when batches at Anthropic are polled: when the next one is expected to have ended. Pure.

The looks at a batch follow from its age alone, so nothing has to be remembered, and whatever else causes a poll between
two looks does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from carpool_worker.policies.durations import Histogram, quantile

LEAST_SECONDS = 0.1
"""The shortest wait between two polls, whatever was learned."""

POLLS_PER_INTERVAL = 100
"""Polls in a `poll_interval` at most, however many batches end in it: with its default of 30 seconds 200 a minute,
where the smallest account may make 1,000 calls. One call covers up to 1,000 batches."""

FIRST_SHARE = 16
"""With nothing learned, the first looks are this fraction of `poll_interval` apart."""

GROWTH = 1.5
"""With nothing learned, each look after those comes at an age this many times that of the one before."""

LATE_GROWTH = 1.1
"""The same for a batch that takes longer than all before it."""

SETTLED = 0.5
"""The share of the batches still expected that should have ended by the next look: each look halves the rest."""


class BatchAge(NamedTuple):
    """How long a batch has been at Anthropic, in seconds, and what was learned about others of its model."""

    seconds: float
    learned: Histogram


@dataclass(frozen=True, slots=True)
class PollPolicy:
    """How often batches at Anthropic are polled."""

    interval: float  # seconds: the longest wait between two polls of a batch

    @property
    def least(self) -> float:
        """The shortest wait between two polls, in seconds."""
        return min(self.interval, max(LEAST_SECONDS, self.interval / POLLS_PER_INTERVAL))

    def seconds_until_poll(self, out: Iterable[BatchAge]) -> float | None:
        """Return the seconds until a poll is worth a call; None if no batch is at Anthropic."""
        waits = [self._until_look(batch) for batch in out]
        return max(self.least, min(waits)) if waits else None

    def _until_look(self, batch: BatchAge) -> float:
        age = max(0.0, batch.seconds)  # a clock that was set back makes it negative
        return min(self.interval, self._next_look(age, batch.learned) - age)

    def _next_look(self, age: float, learned: Histogram) -> float:
        """Return the age at which a batch of this age is looked at next."""
        expected = quantile(learned, SETTLED, longer_than=age)
        if expected is not None:
            return expected
        if learned:
            return age * LATE_GROWTH
        return max(age + self.interval / FIRST_SHARE, age * GROWTH)
