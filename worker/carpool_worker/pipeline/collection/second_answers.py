"""Requests of a batch that are called in real time as well, as their clients want: whichever answer comes first counts.

The other one is paid for, too, and the ledger has both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal

import sqlalchemy as sa

from carpool_worker.claude.results import ReadResult
from carpool_worker.pipeline.collection.conclusions import Conclusions, second_use
from carpool_worker.states import COMPLETE
from carpool_worker.store import usage
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.requests import call_money, call_sweeps
from carpool_worker.store.requests import rows as requests
from carpool_worker.units import DOLLAR, Milliseconds, Picodollars


def leave_to_calls(connection: sa.Connection, conclusions: Conclusions) -> None:
    """Leave requests that the batch did not answer to the calls that are under way for them."""
    unanswered = [one.id for one in conclusions.rescheduled]
    unanswered += [one.id for one in conclusions.endings if one.transition is not COMPLETE]
    if unanswered and (left := set(call_sweeps.under_way(connection, unanswered))):
        call_sweeps.leave_to_calls(connection, sorted(left))
        conclusions.rescheduled = [one for one in conclusions.rescheduled if one.id not in left]
        conclusions.endings = [one for one in conclusions.endings if one.id not in left]


def left_to_calls(connection: sa.Connection, batch_id: str, ids: Sequence[str]) -> set[str]:
    """Leave those of these requests, which the batch's results lack, to the calls under way for them; return which."""
    locked = list(requests.pending(connection, batch_id, ids)) if ids else []
    left = call_sweeps.under_way(connection, locked) if locked else []
    if left:
        call_sweeps.leave_to_calls(connection, left)
    return set(left)


def bill(
    connection: sa.Connection, batch_id: str, results: Mapping[str, ReadResult], day: date, at: Milliseconds
) -> None:
    """Add to the ledger what the batch's answers cost to requests that their calls had answered before."""
    for one in call_money.second_bills(connection, batch_id, list(results)):
        found = results[one.request_id]
        terms = requests.terms_of(connection, one.request_id)
        if found.parsed.message is None or terms is None:
            continue
        used = second_use(found, found.parsed.message, terms, day, usage.IN_BATCH)
        cost = Picodollars(used.cost) if used.is_priced else None
        if call_money.bill_batch(connection, one, cost, at):
            usage.add(connection, [used])
            batches.add_cost(connection, batch_id, Decimal(used.cost) / DOLLAR, Decimal(0))
