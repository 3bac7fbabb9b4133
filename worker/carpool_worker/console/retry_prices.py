"""What a retry costs and what is left alone, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from carpool_worker.formatting import counted, dollars
from carpool_worker.operations.retry import Chance, Estimate, chances

STAYS = {
    Chance.PAID: "whose answer was lost, and may have been paid for already",
    Chance.UNWANTED: "that their client canceled",
    Chance.GONE: "whose params are no longer kept, or not for long",
    Chance.BUSY: "whose callback is being called at this moment",
}


@dataclass(frozen=True)
class RetryPrice:
    """How many requests can be retried, what that may cost, and sentences about the others."""

    count: int
    price: str
    notes: Sequence[str]
    risky: int  # of all: those that may be paid for twice, which are left alone unless told otherwise


def priced(found: Estimate, *, even_paid: bool = False) -> RetryPrice:
    """Return what a retry of these costs."""
    allowed = chances(even_paid=even_paid)
    count = found.count(allowed)
    costs = [f"about {dollars(found.cost)}"] if count > found.unpriced else []
    if found.unpriced:
        costs.append(f"an unknown cost of {found.unpriced:,}, as nothing like them was answered yet")
    notes = [
        f"{counted(left, 'request stays', 'requests stay')} discarded {why}."
        for chance, why in STAYS.items()
        if chance not in allowed and (left := found.counts.get(chance, 0))
    ]
    if found.notified:
        told = counted(found.notified, "callback knows", "callbacks know")
        notes.append(f"{told} of the failure, and will be called again.")
    return RetryPrice(count, " and ".join(costs) or "nothing", notes, found.counts.get(Chance.PAID, 0))
