"""A courier without channels: it claims, loads and records for real, what became of its tries is made up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import sqlalchemy as sa
from tests.model.interruptions import Fuse

from carpool_worker.pipeline.delivery import claims
from carpool_worker.pipeline.delivery.claims import Busy, Findings
from carpool_worker.pipeline.delivery.in_flight import InFlight
from carpool_worker.policies.deliveries import Event, Sent
from carpool_worker.store.deliveries.outcomes import Claimed
from carpool_worker.store.deliveries.rows import FIRST
from carpool_worker.store.requests.sendable import answer_json
from carpool_worker.units import Milliseconds

LEASE = Milliseconds(60_000)
SCHEDULE = (60.0, 60.0)
"""Seconds between tries: there are three."""
MOST_BYTES = 10_000_000
NEVER = Milliseconds(10**15)
"""After which a URL that fails is stopped."""

ACCEPTED, FAILED = Sent(Event.ACCEPTED), Sent(Event.FAILED, "no answer")

Taken = dict[str, set[tuple[str, bytes]]]
"""What receivers took: by the request's id, the URL or task, and the answer as JSON."""


@dataclass
class Courier:
    """It can die between claim and record, and record so late that another has claimed the same since."""

    engine: sa.Engine
    fuse: Fuse
    late: list[Findings] = field(default_factory=list)
    taken: Taken = field(default_factory=lambda: defaultdict(set))

    def deliver(self) -> None:
        self._record(self._send(lambda *_: ACCEPTED))

    def deliver_in_vain(self) -> None:
        """Every other delivery of a segment fails, and each that was tried before."""
        self._record(self._send(_half_failed))

    def deliver_and_hang(self) -> None:
        self.late += self._send(lambda *_: ACCEPTED)

    def record_late(self) -> None:
        self._record(self.late)

    def _send(self, answered: Callable[[Claimed, int], Sent]) -> list[Findings]:
        in_flight = InFlight(SCHEDULE)
        claimed = claims.claim(self.engine, FIRST, Busy(), LEASE).rows
        loaded = claims.load(self.engine, claimed, MOST_BYTES) if claimed else {}
        for one in claimed:
            claim = in_flight.add(one, is_failing=False)
            for content in loaded[one[:2]]:
                sent = answered(one, content.position)
                if sent is ACCEPTED:
                    self.taken[content.request_id].add((one.target, answer_json(content)))
                in_flight.settle(claim, content.request_id, content.position, sent)
        self.fuse.burn()
        findings = in_flight.drain()
        return [findings] if findings else []

    def _record(self, findings: list[Findings]) -> None:
        for one in findings:
            claims.record(self.engine, one, NEVER)


def _half_failed(claimed: Claimed, position: int) -> Sent:
    return ACCEPTED if position % 2 and not claimed.is_own else FAILED
