"""Parcels: claimed deliveries together with what is sent, read and written in chunks for the courier."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from carpool.contract import Answer, to_json
from carpool_worker import database
from carpool_worker.channels import Outgoing
from carpool_worker.store import deliveries
from carpool_worker.store.answers import load_answers
from carpool_worker.store.deliveries import Claimed, Outcome

STOP_REASON = "answered 410"


@dataclass(frozen=True, slots=True)
class Parcel:
    """A claimed delivery and what is sent (None: its request is gone)."""

    claimed: Claimed
    outgoing: Outgoing | None
    stopped: bool  # its endpoint wants no more

    @property
    def size(self) -> int:
        """Bytes of its answer."""
        return len(self.outgoing.answer) if self.outgoing else 0


def claim(engine: sa.Engine, limit: int, lease: float) -> list[Parcel]:
    """Claim up to `limit` deliveries for `lease` seconds, and load their answers."""
    with database.write(engine) as connection:
        claimed = deliveries.claim(connection, limit, round(lease * 1_000), database.now())
    if not claimed:
        return []
    with database.read(engine) as connection:
        answers = load_answers(connection, [one.request_id for one in claimed])
        stopped = deliveries.stopped(connection, {one.target for one in claimed if one.channel == "webhook"})
    return [_parcel(one, answers.get(one.request_id), one.target in stopped) for one in claimed]


def record(engine: sa.Engine, outcomes: Sequence[Outcome], stops: Collection[str]) -> None:
    """Record what became of parcels, and which URLs want no more."""
    with database.write(engine) as connection:
        deliveries.record(connection, outcomes, database.now())
        for url in sorted(stops):  # one order for all couriers: no deadlock
            deliveries.stop_endpoint(connection, url, STOP_REASON, database.now())


def _parcel(claimed: Claimed, answer: Answer | None, stopped: bool) -> Parcel:
    if answer is None:
        return Parcel(claimed, None, stopped)
    outgoing = Outgoing(
        claimed.request_id,
        answer.state,
        claimed.target,
        claimed.callback,
        answer.finished_at,
        to_json(answer),
    )
    return Parcel(claimed, outgoing, stopped)
