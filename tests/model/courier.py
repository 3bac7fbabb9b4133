"""A courier without receivers: it claims and records for real, what became of its tries is made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import sqlalchemy as sa
from tests.fixtures.deliveries import claim_all, outcome_of
from tests.model.interruptions import Fuse

from carpool_worker.database import now, write
from carpool_worker.store.deliveries import rows as deliveries
from carpool_worker.store.deliveries.outcomes import Claimed, ClaimOutcome, DeliveryOutcome, SendAttempt

CHUNK = 10
LEASE = 60_000
"""Milliseconds."""
TRIES = 3


@dataclass
class Courier:
    """It can die between claim and record, and record so late that another has claimed the same since."""

    engine: sa.Engine
    fuse: Fuse
    late: list[ClaimOutcome] = field(default_factory=list)

    def deliver(self) -> None:
        self._record(self._claim(_delivered))

    def deliver_in_vain(self) -> None:
        """Every other delivery of a segment fails."""
        self._record(self._claim(_half_failed))

    def deliver_and_hang(self) -> None:
        self.late += self._claim(_delivered)

    def record_late(self) -> None:
        self._record(self.late)

    def _claim(self, became: Callable[[Claimed, str, int], DeliveryOutcome]) -> list[ClaimOutcome]:
        with write(self.engine) as connection:
            claimed = claim_all(connection, now(), CHUNK, LEASE)
            outcomes = [outcome_of(connection, one, partial(became, one)) for one in claimed]
        self.fuse.burn()
        return outcomes

    def _record(self, outcomes: list[ClaimOutcome]) -> None:
        with write(self.engine) as connection:
            deliveries.record(connection, outcomes, now())


def _delivered(claimed: Claimed, id_: str, position: int) -> DeliveryOutcome:
    return DeliveryOutcome.delivered(id_, position, SendAttempt(now()))


def _half_failed(claimed: Claimed, id_: str, position: int) -> DeliveryOutcome:
    if position % 2 and not claimed.is_own:
        return _delivered(claimed, id_, position)
    if claimed.attempt >= TRIES:
        return DeliveryOutcome.given_up(id_, position, SendAttempt(now()), "tried too often")
    return DeliveryOutcome.snoozed(id_, position, SendAttempt(now()), now() + LEASE, None)
