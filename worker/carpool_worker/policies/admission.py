"""Decides which sealed batches may be posted now: as many as the account's queue has room for, while a window is open.

Where there is not room for all, clients take turns (see fairness.py): within a client the highest priority goes first,
and within it the oldest batch. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from carpool_worker.formatting import counted
from carpool_worker.policies.fairness import Weights
from carpool_worker.policies.in_doubt import SETTLE_INTERVAL, DoubtPolicy
from carpool_worker.policies.limits import Limits
from carpool_worker.policies.windows import Windows
from carpool_worker.units import Milliseconds

FULL = Limits(100_000, 250_000_000, 0)


@dataclass(frozen=True, slots=True)
class SubmitPolicy:
    """How sealed batches are posted."""

    submit_timeout: float  # seconds that a body may take to upload
    queue_limit: int  # requests that Anthropic may have queued, in all batches of an account
    windows: Windows = ()  # when batches may be posted; always if there are none
    cache_shared_prompts: bool = False
    account_limits: Mapping[str | None, int] = field(
        default_factory=dict
    )  # where they differ; None: the default

    full: Limits = FULL  # how much a batch has at most

    @property
    def weights(self) -> Weights:
        """The weights of the clients, where there is not room for all."""
        return self.full.weights

    def limit_of(self, account: str | None) -> int:
        """Return how many requests an account may have queued."""
        return self.account_limits.get(account, self.queue_limit)

    settle_interval: float = SETTLE_INTERVAL  # seconds by which Anthropic's list may lag

    @property
    def doubt(self) -> DoubtPolicy:
        """How batches are recognised that posts under this policy may have made."""
        return DoubtPolicy(self.submit_timeout, self.settle_interval)


class Ready(NamedTuple):
    """A sealed batch whose back-off is over."""

    id: str
    lane: str
    request_count: int
    account: str | None = None
    submit_by: int | None = None  # milliseconds since the epoch; from then on no window blocks it
    submissions: int = 0  # posts so far
    opened_at: int = 0  # milliseconds since the epoch
    clients: str | None = None  # what it has of each client, see models.Batch
    marked: str | None = None  # what is marked in it for the prompt cache


@dataclass(frozen=True, slots=True)
class Line:
    """What of an account could be posted now if there were room: so many requests have it."""

    account: str | None
    ready: Sequence[Ready]
    room: int  # requests
    queue_limit: int

    @property
    def is_crowded(self) -> bool:
        """Whether there is not room for all in the queue."""
        return sum(batch.request_count for batch in self.ready) > self.room

    @property
    def is_pressed(self) -> bool:
        """Whether clients take turns: the queue has not room for all, or not all posts were taken, by a rate limit."""
        return self.is_crowded or any(batch.submissions for batch in self.ready)

    @property
    def is_stuck(self) -> bool:
        """Whether none of it can go, nor be split."""
        return all(self.room < batch.request_count <= self.queue_limit for batch in self.ready)


def fitting(passing: Iterable[Ready], room: int, queue_limit: int) -> list[Ready]:
    """Return those that may go now, in their order: from the first on as many as there is room for.

    None overtakes one that only waits for room. One that can never fit is included, so that it can be split.
    """
    chosen: list[Ready] = []
    for batch in passing:
        if batch.request_count > room:
            return [*chosen, batch] if batch.request_count > queue_limit else chosen
        room -= batch.request_count
        chosen.append(batch)
    return chosen


def let_pass(ready: Iterable[Ready], probes: Mapping[str, int], at: Milliseconds) -> list[Ready]:
    """Return the `ready` batches without those that the pause of their lane keeps waiting.

    From a paused lane only one goes, once its probe is due (`probes`: milliseconds since the epoch, by lane): the first
    of those that were posted least often, as the batches that were may be refused for their own sake.
    """
    ready = list(ready)
    probing = _least_posted(batch for batch in ready if probes.get(batch.lane, at + 1) <= at)
    return [batch for batch in ready if batch.lane not in probes or probing.get(batch.lane) == batch]


def _least_posted(ready: Iterable[Ready]) -> dict[str, Ready]:
    least: dict[str, Ready] = {}
    for batch in ready:
        if batch.lane not in least or batch.submissions < least[batch.lane].submissions:
            least[batch.lane] = batch
    return least


def waits_for_room(queued: int, queue_limit: int) -> str:
    """Return why a batch that could be posted is not."""
    return f"waits: {queued:,} of {counted(queue_limit, 'request is', 'requests are')} queued at Anthropic"
