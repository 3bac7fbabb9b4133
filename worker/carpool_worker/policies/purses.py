"""Which budgets a request is paid from (its client's, its key's, or both), and whether they have room. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import NamedTuple

from carpool_worker.policies.budgets import BudgetBalance, Over, reason


class BudgetDecision(Enum):
    """What happens to a request that is paid from some budgets."""

    WITHIN = auto()
    HELD = auto()
    REFUSED = auto()


class BudgetVerdict(NamedTuple):
    """A decision; of a refusal, with the reason."""

    decision: BudgetDecision
    why: str = ""


@dataclass(slots=True)
class Purse:
    """A budget, as requests are decided on one after the other."""

    owner: str  # "client billing" or "key nightly"
    balance: BudgetBalance
    refuses: bool  # what it has no room for; else that waits
    is_waited_for: bool = False  # by requests that came before, which none overtakes

    @classmethod
    def of(cls, owner: str, balance: BudgetBalance, *, others_wait: bool) -> Purse:
        """Return the purse of a budget, which `others` may wait for already."""
        refuses = balance.budget.over is Over.REFUSE
        return cls(owner, balance, refuses, is_waited_for=others_wait and not refuses)

    def has_room(self, estimate: int) -> bool:
        """Return whether so many picodollars can be reserved."""
        return estimate <= self.balance.room

    def reserve(self, estimate: int) -> None:
        """Reserve picodollars."""
        self.balance = replace(self.balance, reserved=self.balance.reserved + estimate)

    def refusal(self, estimate: int) -> BudgetVerdict:
        """Return that it refuses an estimate, and why."""
        return BudgetVerdict(BudgetDecision.REFUSED, reason(self.owner, self.balance, estimate))


def decide(purses: Sequence[Purse], estimate: int) -> BudgetVerdict:
    """Decide on a request that all of these pay for; reserve its estimate, in picodollars, if all have room.

    What no purse could ever pay is refused. A request that waits for one of them makes later requests wait for that
    one too, and for none of the others.
    """
    for purse in purses:
        if not purse.balance.budget.allows(estimate) or (purse.refuses and not purse.has_room(estimate)):
            return purse.refusal(estimate)
    if any(purse.is_waited_for for purse in purses):
        return BudgetVerdict(BudgetDecision.HELD)
    if lacking := [purse for purse in purses if not purse.has_room(estimate)]:
        for purse in lacking:
            purse.is_waited_for = True
        return BudgetVerdict(BudgetDecision.HELD)
    for purse in purses:
        purse.reserve(estimate)
    return BudgetVerdict(BudgetDecision.WITHIN)


def pay(purses: Sequence[Purse], estimate: int) -> BudgetVerdict:
    """Reserve picodollars from all of these, if all have room: a smaller one may overtake one that waits."""
    for purse in purses:
        if purse.refuses and not purse.has_room(estimate):
            return purse.refusal(estimate)
    if not all(purse.has_room(estimate) for purse in purses):
        return BudgetVerdict(BudgetDecision.HELD)
    for purse in purses:
        purse.reserve(estimate)
    return BudgetVerdict(BudgetDecision.WITHIN)
