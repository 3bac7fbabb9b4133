"""Decides which sealed batches may be posted now: as many as the account's queue has room for, while a window is open.

The highest priority goes first, and within it the oldest batch; low priorities may wait for as long as higher ones keep
coming. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from carpool_worker.policies.in_doubt import SETTLE_INTERVAL, DoubtPolicy
from carpool_worker.policies.windows import Windows
from carpool_worker.units import Milliseconds


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


def next_up(
    ready: Iterable[Ready], probes: Mapping[str, int], *, queued: int, queue_limit: int, at: Milliseconds
) -> list[str]:
    """Return the ids of the `ready` batches that may go now, while `queued` requests are at Anthropic.

    They are in the order in which they go, and none overtakes one that only waits for room. From a paused lane only
    one goes, once its probe is due (`probes`: milliseconds since the epoch, by lane): the first of those that were
    posted least often, as the batches that were may be refused for their own sake. A batch that can never fit is
    included, so that it can be split.
    """
    ready = list(ready)
    chosen: list[str] = []
    room = queue_limit - queued
    probing = _least_posted(batch for batch in ready if probes.get(batch.lane, at + 1) <= at)
    for batch in ready:
        if batch.lane in probes and probing.get(batch.lane) != batch:
            continue
        if batch.request_count > room:
            return [*chosen, batch.id] if batch.request_count > queue_limit else chosen
        room -= batch.request_count
        chosen.append(batch.id)
    return chosen


def _least_posted(ready: Iterable[Ready]) -> dict[str, Ready]:
    least: dict[str, Ready] = {}
    for batch in ready:
        if batch.lane not in least or batch.submissions < least[batch.lane].submissions:
            least[batch.lane] = batch
    return least


def waits_for_room(queued: int, queue_limit: int) -> str:
    """Return why a batch that could be posted is not."""
    return f"waits: {queued:,} of {queue_limit:,} requests are queued at Anthropic"
