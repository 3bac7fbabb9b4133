"""Decides what follows a call of the Messages API, and who may pay for one. Pure: the caller acts on the decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from carpool.contract import CLIENT_NAME
from carpool_worker.exceptions import ClaudeError
from carpool_worker.policies.budgets import DEFAULT, Budget, Budgets, budget_of
from carpool_worker.policies.retries import INCURABLE_ERRORS, REJECTING_STATUSES, needs_an_operator

ALL = "*"
"""The real-time budget of all clients together."""

FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 60.0
"""Seconds. Each further refusal doubles the wait; the API may ask for more."""

BURST_SECONDS = 10.0
"""For so many seconds' calls are made at once, after a pause: so much a minute is not so much in its first second."""

LEASE = 60.0
"""Seconds after which a caller that has not renewed its lease is suspected to be gone."""

RENEWAL = 10.0
"""Seconds between two renewals of a lease."""

SUSPICION = 30.0
"""Seconds after which a suspected caller is known to be gone: one that only lacked the database renews its lease."""

OVERTIME = 30.0
"""Seconds beyond its timeout after which a call is given up though its caller lives: an answer that trickles in."""


def check_owners(budgets: dict[str, Budget]) -> dict[str, Budget]:
    """Accept budgets by the names of clients, "default" and "*"; raises ValueError."""
    if bad := [name for name in budgets if name != ALL and not CLIENT_NAME.fullmatch(name)]:
        raise ValueError(
            f"{bad[0]!r}: must be a client, {DEFAULT!r} for each without its own, or {ALL!r} for all together"
        )
    return budgets


class AfterCall(Enum):
    """What becomes of a call that was not answered with a message."""

    AGAIN = auto()
    """It was certainly not made: it is made again later, if there is time."""
    PAUSE = auto()
    """The key or the account is at fault: its lane is paused, and the request goes back into the pool."""
    REFUSE = auto()
    """The request is at fault: it ends with this error."""
    RETURN = auto()
    """The request may only be possible in a batch: it goes back into the pool."""
    LOSE = auto()
    """Nobody knows whether it was made: it is never made again."""


@dataclass(frozen=True, slots=True)
class RealTimePolicy:
    """Who may pay for calls in real time, how many are made at once and a minute by an account, and how long one takes.

    Without `budgets` there are none: nobody pays the full price unasked.
    """

    budgets: Budgets = field(
        default_factory=dict
    )  # for real-time money alone; ALL is that of all clients together
    concurrency: int = 20
    per_minute: int = 50
    timeout: float = 600.0  # seconds
    client_budgets: Budgets = field(default_factory=dict)  # for all money

    @property
    def is_on(self) -> bool:
        """Whether any client may pay for a call."""
        return bool(self.budgets)

    def allows(self, client: str) -> bool:
        """Return whether a client may pay for calls at all."""
        return bool(self.budgets_of(client))

    def budgets_of(self, client: str) -> Mapping[str, Budget]:
        """Return the budgets for real-time money that a client's calls are paid from, by their owners."""
        own, common = budget_of(self.budgets, client), self.budgets.get(ALL)
        found = {} if own is None else {client: own}
        return found if common is None else found | {ALL: common}


def after_call(error: ClaudeError, has_betas: bool) -> AfterCall:
    """Decide what follows a call that failed; `has_betas`: it had beta features, which may be for batches only."""
    if not error.certain:
        return AfterCall.LOSE
    if error.status in REJECTING_STATUSES or error.kind in INCURABLE_ERRORS:
        if error.status == 400 and needs_an_operator(error):
            return AfterCall.PAUSE
        return AfterCall.RETURN if has_betas else AfterCall.REFUSE
    return AfterCall.PAUSE if needs_an_operator(error) else AfterCall.AGAIN


def backoff(refusals: int, retry_after: float | None) -> float:
    """Return the seconds to wait after `refusals` in a row; never less than the API asked for."""
    return max(min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(refusals - 1, 10)), retry_after or 0.0)
