"""SQL that moves the counts of clients' batches, in the transactions in which their requests end or begin again.

Those have locked the requests first, and lock clients' batches in order of id, so that no two wait for each other.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa

from carpool_worker import transition_log
from carpool_worker.models.tables import client_batches
from carpool_worker.policies.client_batches import shown_id, stored_id
from carpool_worker.states import OUTCOMES
from carpool_worker.units import DOLLAR

ROW = client_batches.c


class Counted(Protocol):
    """A request of a client's batch that ends; costs in picodollars."""

    @property
    def client_batch(self) -> str | None:
        """As its client knows it; None: it is of none."""

    @property
    def outcome(self) -> str:
        """Anthropic's word for how it ended."""

    @property
    def cost(self) -> int | None:
        """None: nothing, or unknown."""

    @property
    def list_price(self) -> int | None:
        """None: nothing, or unknown."""


class EndedBatch(NamedTuple):
    """A client's batch all of whose requests have ended."""

    id: str
    client: str
    callback: str | None  # JSON
    ends: int  # how often it has ended


@dataclass(slots=True)
class _Tally:
    outcomes: Counter[str] = field(default_factory=Counter)
    cost: int = 0
    list_price: int = 0


def end(connection: sa.Connection, ended: Iterable[Counted], at: int) -> list[EndedBatch]:
    """Count requests that end now (milliseconds since the epoch); return the batches that end with them."""
    tallies: defaultdict[str, _Tally] = defaultdict(_Tally)
    for one in ended:
        if one.client_batch is not None and (batch_id := stored_id(one.client_batch)):
            tally = tallies[batch_id]
            tally.outcomes[_known(one.outcome)] += 1
            tally.cost += one.cost or 0
            tally.list_price += one.list_price or 0
    found = (_end(connection, batch_id, tallies[batch_id], at) for batch_id in sorted(tallies))
    return [one for one in found if one]


def reopen(connection: sa.Connection, retried: Mapping[str, Counter[str]]) -> None:
    """Count requests that are tried again after their end; given their last outcomes, by batch as clients know it.

    A batch that had ended is in progress again, and will end again.
    """
    known = {stored_id(shown): outcomes for shown, outcomes in retried.items()}
    for batch_id in sorted(filter(None, known)):
        outcomes: Counter[str] = Counter()
        for outcome, count in known[batch_id].items():
            outcomes[_known(outcome)] += count
        moved: dict[str, Any] = {name: ROW[name] - outcomes[name] for name in OUTCOMES}
        moved |= {"processing": ROW.processing + outcomes.total(), "ended_at": None}
        connection.execute(sa.update(client_batches).where(ROW.id == batch_id).values(moved))


def correct(
    connection: sa.Connection, batch_id: str, processing: int, outcomes: Mapping[str, int], at: int
) -> EndedBatch | None:
    """Set the counts of a locked batch to what its requests say; return it if that ends it."""
    known: Counter[str] = Counter()
    for outcome, count in outcomes.items():
        known[_known(outcome)] += count
    wrong = sa.or_(*(ROW[name] != known[name] for name in OUTCOMES))
    moved: dict[str, Any] = {name: known[name] for name in OUTCOMES} | {"processing": processing}
    moved["request_count"] = processing + known.total()
    moved |= {"ended_at": None if processing else at, "ends": ROW.ends + (0 if processing else 1)}
    corrected = sa.update(client_batches).where(ROW.id == batch_id, ROW.processing > 0, wrong).values(moved)
    row = connection.execute(corrected.returning(ROW.client, ROW.callback, ROW.ends)).one_or_none()
    if row is None:
        return None
    transition_log.record(connection, "client batch corrected", logging.WARNING, batch=shown_id(batch_id))
    return None if processing else EndedBatch(batch_id, *row)


def _end(connection: sa.Connection, batch_id: str, tally: _Tally, at: int) -> EndedBatch | None:
    left = ROW.processing - tally.outcomes.total()
    moved: dict[str, Any] = {name: ROW[name] + tally.outcomes[name] for name in OUTCOMES}
    moved |= {
        "processing": left,
        "ended_at": sa.case((left == 0, at)),
        "ends": ROW.ends + sa.case((left == 0, 1), else_=0),
        "cost": ROW.cost + sa.literal(_dollars(tally.cost), ROW.cost.type),
        "list_price": ROW.list_price + sa.literal(_dollars(tally.list_price), ROW.cost.type),
    }
    counted = sa.update(client_batches).where(ROW.id == batch_id).values(moved)
    returned = counted.returning(ROW.processing, ROW.client, ROW.callback, ROW.ends, ROW.request_count)
    row = connection.execute(returned).one_or_none()
    if row is None or row.processing:
        return None  # it was deleted, or goes on
    transition_log.record(
        connection, "client batch ended", batch=shown_id(batch_id), requests=row.request_count
    )
    return EndedBatch(batch_id, row.client, row.callback, row.ends)


def _known(outcome: str) -> str:
    """Return the count to which an outcome belongs: the API may come to know more of them."""
    return outcome if outcome in OUTCOMES else "errored"


def _dollars(picodollars: int) -> Decimal:
    return Decimal(picodollars) / DOLLAR
