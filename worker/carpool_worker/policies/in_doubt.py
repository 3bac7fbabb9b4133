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


SETTLE_INTERVAL = 120.0
"""Seconds by which the list may lag."""

FRESH_INTERVAL = 3_600.0
"""Seconds: the settling time where the list has not shown a batch of ours yet, so that it may be no true list."""


class BatchInDoubt(Protocol):
    """What the search needs to know of a batch whose post is unanswered. Times are milliseconds since the epoch.

    By the API's clock are `search_started_at`, `cursor_at` (when the list was read before the first post) and
    `looked_at` (before the last one).
    """

    submitting_at: int | None
    in_doubt_at: int | None
    search_started_at: int | None
    cursor_at: int | None
    looked_at: int | None


@dataclass(frozen=True, slots=True)
class DoubtPolicy:
    """How many seconds an upload may take, and for how many after the post's end its batch is searched for."""

    submit_timeout: float
    settle_interval: float
    date_margin: float = DATE_MARGIN
    fresh_interval: float = FRESH_INTERVAL

    @property
    def longest_post(self) -> float:
        """Seconds after which a post is over, whatever happens."""
        return longest_post(self.submit_timeout)

    @property
    def slack(self) -> float:
        """Seconds by which a batch may seem older or younger than the post that made it."""
        return self.settle_interval + self.date_margin

    def search_seconds(self, batch: BatchInDoubt, is_fresh: bool = False) -> float:
        """Return how many seconds after the first list without it a batch that no list shows is known not to exist.

        With `is_fresh`, no list has shown any batch of ours in its workspace yet.
        """
        # If no doubt was recorded, the submitter died or is still posting: its timeout comes on top.
        posting = 0.0 if batch.in_doubt_at else self.longest_post
        return posting + self._settling(is_fresh) + self.date_margin

    def gives_up_at(self, batch: BatchInDoubt, is_fresh: bool = False) -> Milliseconds:
        """Return about when the search ends. For display only: it goes by our clock."""
        if batch.search_started_at is not None:
            return after(Milliseconds(batch.search_started_at), self.search_seconds(batch, is_fresh))
        posted_at = batch.in_doubt_at or after(Milliseconds(batch.submitting_at or 0), self.longest_post)
        return after(Milliseconds(posted_at), self._settling(is_fresh))

    def made_from(self, batch: BatchInDoubt) -> Milliseconds:
        """Return before when no post of a batch can have made anything, by the API's clock."""
        return after(Milliseconds(batch.cursor_at or 0), -self.slack)

    def made_until(self, batch: BatchInDoubt) -> Milliseconds | None:
        """Return after when no post of a batch can have made anything, by the API's clock; None if it has none."""
        if batch.cursor_at is None:
            return None
        last_look = Milliseconds(max(batch.cursor_at, batch.looked_at or 0))
        return after(last_look, self.longest_post + self.slack)

    def _settling(self, is_fresh: bool) -> float:
        return max(self.settle_interval, self.fresh_interval if is_fresh else 0.0)


def longest_post(seconds: float) -> float:
    """Return the seconds after which a post that may upload for `seconds` is over, whatever happens."""
    return CONNECT_TIMEOUT + seconds + min(seconds, READ_TIMEOUT)
