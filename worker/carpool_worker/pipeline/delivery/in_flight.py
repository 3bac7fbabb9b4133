"""What a run of the courier has in memory: claimed deliveries, waiting or being sent, and outcomes to be recorded."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from carpool_worker import database
from carpool_worker.pipeline.delivery.claims import ClaimedDelivery
from carpool_worker.policies.deliveries import Decision, Event, Sent, after_delivery
from carpool_worker.states import DELIVER, GIVE_UP, DeliveryState
from carpool_worker.store.deliveries.rows import DeliveryOutcome, SendAttempt
from carpool_worker.units import SECOND, Milliseconds

CHUNK_DELIVERIES = 250
"""Claimed in one transaction."""

MOST_DELIVERIES = 2_000
MOST_BYTES = 64_000_000
"""In memory at a time: deliveries, and bytes of their answers (which one chunk may exceed)."""


class InFlight:
    """The deliveries of a run and their outcomes; `schedule` is the seconds between tries."""

    def __init__(self, schedule: Sequence[float]) -> None:
        self._schedule = schedule
        self._bytes = 0
        self._outcomes: list[DeliveryOutcome] = []
        self.count = 0
        self.tally: Counter[DeliveryState] = Counter()
        self.notices: Counter[str] = Counter()

    @property
    def is_empty(self) -> bool:
        """Whether no delivery is claimed, and no outcome left to be recorded."""
        return not self.count and not self._outcomes

    @property
    def has_room(self) -> bool:
        """Whether another chunk may be claimed."""
        return self.count <= MOST_DELIVERIES - CHUNK_DELIVERIES and self._bytes < MOST_BYTES

    def add(self, delivery: ClaimedDelivery) -> None:
        """Add a claimed delivery."""
        self.count += 1
        self._bytes += delivery.size

    def settle(self, delivery: ClaimedDelivery, sent: Sent, seconds: float = 0.0) -> None:
        """Remove a delivery and keep its outcome: sending it took `seconds` and ended with `sent`."""
        decision = after_delivery(sent, delivery.claimed.attempt, self._schedule, random.random())  # noqa: S311
        self._outcomes.append(_outcome(delivery, sent, decision, Milliseconds(round(seconds * SECOND))))
        if sent.event is Event.DEFERRED and sent.detail:
            self.notices[sent.detail] += 1
        self.tally[decision.state] += 1
        self.count -= 1
        self._bytes -= delivery.size

    def drain(self) -> list[DeliveryOutcome]:
        """Remove and return the outcomes that are not recorded yet."""
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def restore(self, outcomes: list[DeliveryOutcome]) -> None:
        """Keep drained outcomes for later, as they could not be recorded."""
        self._outcomes = outcomes + self._outcomes


def _outcome(
    delivery: ClaimedDelivery, sent: Sent, decision: Decision, milliseconds: Milliseconds
) -> DeliveryOutcome:
    now = database.now()
    claimed = delivery.claimed
    attempt = SendAttempt(now - milliseconds, milliseconds, sent.status, sent.detail, decision.counts)
    if decision.state is DELIVER.target:
        return DeliveryOutcome.delivered(claimed, attempt)
    if decision.state is GIVE_UP.target:
        stops = decision.stops_endpoint
        return DeliveryOutcome.given_up(claimed, attempt, decision.error, stops_endpoint=stops)
    due_at = now + round(decision.seconds * SECOND)
    return DeliveryOutcome.snoozed(claimed, attempt, due_at, decision.error)
