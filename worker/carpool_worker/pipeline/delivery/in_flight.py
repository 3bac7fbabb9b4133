"""What one run of the courier has in memory: parcels that are out or wait, and outcomes not yet recorded."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from carpool_worker import database
from carpool_worker.pipeline.delivery.claims import Parcel
from carpool_worker.policies.deliveries import Decision, Event, Sent, after_delivery
from carpool_worker.states import DeliveryState
from carpool_worker.store.deliveries.rows import Outcome

CHUNK = 250
WINDOW = 2_000
WINDOW_BYTES = 64_000_000
"""Deliveries claimed at a time; deliveries, and bytes of answers, held at most (and one chunk more of bytes)."""


class Window:
    """Parcels by the lot, and what became of them; `schedule` holds the seconds between tries."""

    def __init__(self, schedule: Sequence[float]) -> None:
        self._schedule = schedule
        self._bytes = 0
        self._outcomes: list[Outcome] = []
        self.count = 0
        self.tally: Counter[DeliveryState] = Counter()
        self.notices: Counter[str] = Counter()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is out or waits, and nothing is left to be recorded."""
        return not self.count and not self._outcomes

    @property
    def has_room(self) -> bool:
        """Whether another chunk may be claimed."""
        return self.count <= WINDOW - CHUNK and self._bytes < WINDOW_BYTES

    def take(self, parcel: Parcel) -> None:
        """Hold a parcel."""
        self.count += 1
        self._bytes += parcel.size

    def settle(self, parcel: Parcel, sent: Sent, seconds: float = 0.0) -> None:
        """Let go of a parcel: sending it took `seconds` and ended with `sent`."""
        decision = after_delivery(sent, parcel.claimed.attempt, self._schedule, random.random())  # noqa: S311
        self._outcomes.append(_outcome(parcel, sent, decision, round(seconds * 1_000)))
        if sent.event is Event.HELD and sent.detail:
            self.notices[sent.detail] += 1
        self.tally[decision.state] += 1
        self.count -= 1
        self._bytes -= parcel.size

    def drain(self) -> list[Outcome]:
        """Return the outcomes since the last time."""
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def put_back(self, outcomes: list[Outcome]) -> None:
        """Keep drained outcomes for another time, as they could not be recorded."""
        self._outcomes = outcomes + self._outcomes


def _outcome(parcel: Parcel, sent: Sent, decision: Decision, milliseconds: int) -> Outcome:
    now = database.now()
    return Outcome(
        parcel.claimed,
        decision.state,
        at=now - milliseconds,
        due_at=now + round(decision.seconds * 1_000),
        error=decision.error,
        milliseconds=milliseconds,
        status=sent.status,
        detail=sent.detail,
        tried=decision.counts,
        stops_endpoint=decision.stops_endpoint,
    )
