"""How long to search for a batch whose post was never answered, before concluding that it was not made. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from carpool_worker.units import Milliseconds, after

DATE_MARGIN = 3.0
"""Seconds by which the Date headers of two answers may be off: they are whole seconds, and the API has many hosts."""

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 60.0
"""Seconds: to connect, and to wait for the next byte, before an answer counts as lost."""


class BatchInDoubt(Protocol):
    """What the search needs to know of a batch whose post is unanswered. Times are milliseconds since the epoch."""

    submitting_at: int | None
    in_doubt_at: int | None
    search_started_at: int | None


@dataclass(frozen=True, slots=True)
class DoubtPolicy:
    """How many seconds an upload may take, and for how many after the post's end its batch is searched for."""

    submit_timeout: float
    settle_interval: float
    date_margin: float = DATE_MARGIN

    def search_seconds(self, batch: BatchInDoubt) -> float:
        """Return how many seconds after the first list without it a batch that no list shows is known not to exist."""
        # If no doubt was recorded, the submitter died or is still posting: its timeout comes on top.
        posting = 0.0 if batch.in_doubt_at else self._posting()
        return posting + self.settle_interval + self.date_margin

    def gives_up_at(self, batch: BatchInDoubt) -> Milliseconds:
        """Return about when the search ends. For display only: it goes by our clock."""
        if batch.search_started_at is not None:
            return after(Milliseconds(batch.search_started_at), self.search_seconds(batch))
        posted_at = batch.in_doubt_at or after(Milliseconds(batch.submitting_at or 0), self._posting())
        return after(Milliseconds(posted_at), self.settle_interval)

    def _posting(self) -> float:
        return longest_post(self.submit_timeout)


def longest_post(seconds: float) -> float:
    """Return the seconds after which a post that may upload for `seconds` is over, whatever happens."""
    return CONNECT_TIMEOUT + seconds + min(seconds, READ_TIMEOUT)
