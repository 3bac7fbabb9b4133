"""Decides what becomes of a request that has a deadline, from how long batches took until now. Pure.

As long as a batch that is sent later is likely to end in time, the request is pooled as any other. When only one that
is sent now is, its batch is sent. When none is, the request is called at once, at the full price, if that is allowed.
The less time is left and the longer batches take, the further along it is on that way, never back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from carpool_worker.policies.budgets import DEFAULT
from carpool_worker.policies.durations import Histogram, quantile
from carpool_worker.units import Milliseconds, after

SHARE = 0.95
"""The share of batches that have to be expected to end in time, where nobody says otherwise."""

KNOWN = 5.0
"""The weight of what was learned from which it tells what to expect: five batches that have just ended."""

LONGEST = 86_400.0
"""Seconds: what a batch can take, at most. With nothing learned, every batch may."""

ON_A_GUESS = 1_800.0
"""Seconds: with nothing learned, nobody pays the full price while more time is left than that. Anthropic says that
most batches end within an hour; with half of that left, a batch would be a gamble."""

CALL_SECONDS = 120.0
"""What a call may take in all, with its wait for the rate limit. One that is paid for a second time begins no sooner:
until then its batch may end."""

POSTING_SECONDS = 10.0
"""From the decision to a batch's post, and from its results to the callbacks."""

PATIENCE = 60.0
"""Seconds for which a batch that is sent at the latest moment may wait for its post before its requests are called."""


class Move(StrEnum):
    """What becomes of a request; each is further along than the one before."""

    POOL = "pool"
    """It waits in its batch for more requests, or for room at Anthropic."""
    SEND = "send"
    """Its batch is sent as it is, as soon as Anthropic has room for it."""
    CALL = "call"
    """It is called at once, by the Messages API."""


@dataclass(frozen=True, slots=True)
class DeadlineRule:
    """How surely deadlines are to be kept: the share of batches that have to be expected to end in time.

    With less a request is called. Its batch is sent at half the risk: it may have to wait for room at Anthropic.
    """

    share: float = SHARE
    overhead: float = POSTING_SECONDS  # seconds that a request takes besides its batch at Anthropic
    by_client: Mapping[str, float] = field(
        default_factory=dict
    )  # seconds, of requests that name no deadline; DEFAULT: of clients without their own

    def due_at(self, client: str, enqueued_at: int) -> int | None:
        """Return when a client's request is due that names no deadline (milliseconds since the epoch)."""
        seconds = self.by_client.get(client) or self.by_client.get(DEFAULT)
        return None if seconds is None else after(Milliseconds(enqueued_at), seconds)

    def sends_within(self, learned: Histogram) -> float:
        """Return with how many seconds left a batch is sent."""
        return self._within(learned, (1 + self.share) / 2, LONGEST) + PATIENCE

    def calls_within(self, learned: Histogram) -> float:
        """Return with how many seconds left a request is called that Anthropic does not have."""
        return self._within(learned, self.share, ON_A_GUESS)

    def _within(self, learned: Histogram, share: float, unknown: float) -> float:
        took = quantile(learned, share) if sum(learned.values()) >= KNOWN else None
        return self.overhead + (unknown if took is None else took)


def decide(
    left: float,
    learned: Histogram,
    rule: DeadlineRule,
    policy: str | None = None,
    *,
    is_at_anthropic: bool = False,
) -> Move:
    """Return what becomes of a request that is due in `left` seconds, if its batch were posted now.

    `policy` is what its client says that the deadline may cost: None or "call", "batch", "pay_again". What Anthropic
    has is called only with the last, and as late as a call allows. A deadline that has passed isn't worth a full price.
    """
    calls_within = CALL_SECONDS if is_at_anthropic else rule.calls_within(learned)
    may_call = policy == "pay_again" if is_at_anthropic else policy != "batch"
    if may_call and 0 < left <= calls_within:
        return Move.CALL
    if is_at_anthropic or left > rule.sends_within(learned):
        return Move.POOL
    return Move.SEND
