"""A courier without receivers: it claims and records for real, what became of its tries is made up."""

from __future__ import annotations

from dataclasses import dataclass, field

import sqlalchemy as sa
from tests.model.interruptions import Fuse

from carpool_worker.database import now, write
from carpool_worker.store.deliveries import rows as deliveries
from carpool_worker.store.deliveries.rows import Claimed, DeliveryOutcome, SendAttempt

CHUNK = 10
LEASE = 60_000
"""Milliseconds."""
TRIES = 3


@dataclass
class Courier:
    """It can die between claim and record, and record so late that another has claimed the same since."""

    engine: sa.Engine
    fuse: Fuse
    late: list[DeliveryOutcome] = field(default_factory=list)

    def deliver(self) -> None:
        self._record([_delivered(one) for one in self._claim()])

    def deliver_in_vain(self) -> None:
        self._record([_failed(one) for one in self._claim()])

    def deliver_and_hang(self) -> None:
        self.late += [_delivered(one) for one in self._claim()]

    def record_late(self) -> None:
        self._record(self.late)

    def _claim(self) -> list[Claimed]:
        with write(self.engine) as connection:
            claimed = deliveries.claim(connection, CHUNK, LEASE, now())
        self.fuse.burn()
        return claimed

    def _record(self, outcomes: list[DeliveryOutcome]) -> None:
        with write(self.engine) as connection:
            deliveries.record(connection, outcomes, now())


def _delivered(one: Claimed) -> DeliveryOutcome:
    return DeliveryOutcome.delivered(one, SendAttempt(now()))


def _failed(one: Claimed) -> DeliveryOutcome:
    if one.attempt >= TRIES:
        return DeliveryOutcome.given_up(one, SendAttempt(now()), "tried too often")
    return DeliveryOutcome.snoozed(one, SendAttempt(now()), now() + LEASE, None)
