"""How long a create whose answer was lost is looked for, before it is known to have made no batch."""

from __future__ import annotations

from dataclasses import dataclass

from carpool_worker.api_times import longest_post
from carpool_worker.models import Batch

DATE_MARGIN = 3.0
"""Seconds by which the dates of two answers may be wrong: they are whole seconds, and the API has many hosts."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an upload can last, and how long after the post's end the list is asked for its batch. Seconds."""

    submit_timeout: float
    settle_interval: float
    date_margin: float = DATE_MARGIN

    def seconds(self, batch: Batch) -> float:
        """Return how long after the first look a batch that no list shows is known not to exist."""
        # Without a doubt on record the submitter died, or still posts: it has until its timeout, and then some.
        posting = 0.0 if batch.in_doubt_at else self._posting()
        return posting + self.settle_interval + self.date_margin

    def ends(self, batch: Batch) -> int:
        """Return about when that is, in milliseconds since the epoch: to be shown, not to go by."""
        if batch.sought_at is not None:
            return batch.sought_at + int(self.seconds(batch) * 1000)
        posted = batch.in_doubt_at or (batch.submitting_at or 0) + int(self._posting() * 1000)
        return posted + int(self.settle_interval * 1000)

    def _posting(self) -> float:
        return longest_post(self.submit_timeout)
