"""Decides what follows each attempt to deliver. Pure: the courier acts on the decision.

The rules are those of Standard Webhooks 1.0.0: 2xx alone is success, 410 ends all deliveries to the endpoint,
Retry-After is obeyed, and anything else is tried again on a schedule with jitter.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from carpool_worker.formatting import counted
from carpool_worker.states import DELIVER, GIVE_UP, SNOOZE, DeliveryState
from carpool_worker.units import DAY, SECOND

JITTER = 0.2
"""Fraction by which a wait is made longer or shorter at random, so that retries do not come in waves."""

LONGEST_RETRY_AFTER = DAY / SECOND
"""Seconds: a receiver that asks for more is tried again after a day."""

DEFERRED_SECONDS = 30.0
"""Until a delivery that was not sent is due again."""

GONE = 410
"""The HTTP status by which a receiver refuses all further deliveries."""


class Event(Enum):
    """How a channel's attempt to send ended."""

    ACCEPTED = "accepted"
    """The broker accepted it."""
    ANSWERED = "answered"
    """A receiver answered over HTTP; its status decides."""
    FAILED = "failed"
    """No answer came, or the receiver could not be reached; another try may succeed."""
    REFUSED = "refused"
    """It must not be sent there, now or later."""
    DEFERRED = "deferred"
    """Not sent: other deliveries come first, or an operator has to set something first."""
    FULL = "full"
    """Not sent: the receiver has no room, for this delivery or any other."""


class Sent(NamedTuple):
    """The outcome of a try to send."""

    event: Event
    detail: str | None = None  # the error, or the start of the receiver's answer
    status: int | None = None  # HTTP's
    retry_after: float | None = None  # seconds until it may be tried again, at least


class Decision(NamedTuple):
    """The delivery's next state, the seconds until it is tried again, why, and what else follows."""

    state: DeliveryState
    seconds: float = 0.0
    error: str | None = None
    counts: bool = True  # False: nothing was sent, so this was not a try
    stops_endpoint: bool = False


DELIVERED = Decision(DELIVER.target)


def after_delivery(sent: Sent, attempt: int, schedule: Sequence[float], chance: float) -> Decision:
    """Decide what follows the `attempt`-th try (from 1); `chance` from 0 to 1 places it within the jitter.

    `schedule` is the seconds between tries: with nine waits there are ten tries.
    """
    if sent.event in (Event.DEFERRED, Event.FULL):
        wait = max(DEFERRED_SECONDS, sent.retry_after or 0.0)
        return Decision(SNOOZE.target, wait * _jitter(chance), sent.detail, counts=False)
    if sent.event is Event.REFUSED:
        return Decision(GIVE_UP.target, error=sent.detail, counts=False)
    if _succeeded(sent):
        return DELIVERED
    if sent.status == GONE:
        return Decision(
            GIVE_UP.target, error="answered 410: this endpoint wants no more deliveries", stops_endpoint=True
        )
    if attempt > len(schedule):
        return Decision(
            GIVE_UP.target, error=f"{_error(sent)}; gave up after {counted(attempt, 'try', 'tries')}"
        )
    wait = schedule[attempt - 1] * _jitter(chance)
    asked = min(sent.retry_after or 0.0, LONGEST_RETRY_AFTER)
    return Decision(SNOOZE.target, max(wait, asked), _error(sent))


def _jitter(chance: float) -> float:
    return 1 - JITTER + 2 * JITTER * chance


def _succeeded(sent: Sent) -> bool:
    return sent.event is Event.ACCEPTED or (sent.status is not None and 200 <= sent.status < 300)


def _error(sent: Sent) -> str:
    if sent.status is None:
        return sent.detail or "failed"
    return f"answered {sent.status}" + (" (redirects are not followed)" if 300 <= sent.status < 400 else "")
