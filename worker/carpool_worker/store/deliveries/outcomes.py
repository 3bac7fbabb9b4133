"""What became of deliveries that a courier had claimed: of each, and of the row that they were claimed with. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from carpool_worker.models.deliveries import REST
from carpool_worker.states import DELIVER, GIVE_BACK, GIVE_UP, SNOOZE, DeliveryState, Transition

WAITS, MADE, OWN, OUT = b"-dox"
"""The letters of `progress`, one for each position of the segment: the delivery is to be made; it was made; it has a
row of its own; it was taken out, as its request was retried or erased."""


class Claimed(NamedTuple):
    """A row of deliveries that belongs to one courier until its lease ends."""

    answer_id: int
    position: int
    request_id: str | None  # None: it is about all of the segment that have no row of their own
    channel: str
    target: str
    receiver: str
    client: str
    attempt: int  # this try's number, from 1
    claim: int  # the number of this claim, which distinguishes it from earlier and later ones
    pending: int
    progress: str | None
    due_at: int  # since when it had been due

    @property
    def is_own(self) -> bool:
        """Whether it is about a single request."""
        return self.position != REST

    def letters(self) -> bytearray:
        """Return the letter of each position in the segment."""
        return letters_of(self.progress, self.pending, 0)

    def positions(self) -> list[int]:
        """Return the positions of the answers to be sent."""
        if self.is_own:
            return [self.position]
        return [at for at, letter in enumerate(self.letters()) if letter == WAITS]


@dataclass(frozen=True, slots=True)
class SendAttempt:
    """When a claimed delivery was sent, how long that took, and the response."""

    at: int
    milliseconds: int = 0
    status: int | None = None  # HTTP's
    detail: str | None = None  # the error, or the start of the response
    counts: bool = True  # False: nothing was sent, so this was not a try


@dataclass(frozen=True, slots=True)
class DeliveryOutcome:
    """The transition of one delivery, with its columns: made by `delivered`, `snoozed` … only."""

    request_id: str
    position: int
    attempt: SendAttempt
    transition: Transition[DeliveryState]
    due_at: int | None = None  # None: when it is recorded
    last_error: str | None = None
    stops_endpoint: bool = False

    @classmethod
    def delivered(cls, request_id: str, position: int, attempt: SendAttempt) -> DeliveryOutcome:
        """Return the outcome of a delivery that its receiver took."""
        return cls(request_id, position, attempt, DELIVER)

    @classmethod
    def snoozed(
        cls, request_id: str, position: int, attempt: SendAttempt, due_at: int, error: str | None
    ) -> DeliveryOutcome:
        """Return the outcome of a delivery that is tried again at `due_at`."""
        return cls(request_id, position, attempt, SNOOZE, due_at, error)

    @classmethod
    def given_up(
        cls,
        request_id: str,
        position: int,
        attempt: SendAttempt,
        error: str | None,
        *,
        stops_endpoint: bool = False,
    ) -> DeliveryOutcome:
        """Return the outcome of a delivery that is not tried again unless an operator replays it."""
        return cls(request_id, position, attempt, GIVE_UP, None, error, stops_endpoint)

    @classmethod
    def given_back(cls, request_id: str, position: int, at: int, reason: str | None) -> DeliveryOutcome:
        """Return the outcome of a delivery that was not sent, and is due as it was before."""
        return cls(request_id, position, SendAttempt(at, counts=False), GIVE_BACK, None, reason)


@dataclass(frozen=True, slots=True)
class ClaimOutcome:
    """What becomes of a claimed row, and of those of its deliveries that get a row of their own."""

    claimed: Claimed
    transition: Transition[DeliveryState] | None  # None: it stays claimed, only its progress is recorded
    pending: int
    delivered: int
    progress: str | None
    tries: Sequence[DeliveryOutcome] = ()  # that failed, or were made in a row of their own
    apart: Sequence[DeliveryOutcome] = ()  # that get a row of their own
    due_at: int | None = None  # None: when it is recorded
    last_error: str | None = None


def in_progress(claimed: Claimed, letters: bytearray, tries: Sequence[DeliveryOutcome] = ()) -> ClaimOutcome:
    """Return what is known so far of a row of which more deliveries are being made; `letters` get the tries' OWN."""
    return _row(claimed, None, letters, tries, tries)


def concluded(
    claimed: Claimed,
    letters: bytearray,
    tries: Sequence[DeliveryOutcome] = (),
    unsent: Sequence[DeliveryOutcome] = (),
) -> ClaimOutcome:
    """Return the outcome of a row whose deliveries were all sent, given back, deferred or refused.

    `tries` are those that were sent and not accepted, or sent from a row of their own; `unsent` are all others that
    were not made. What was not sent, for one reason, stays together in the row.
    """
    if claimed.is_own:
        return _own(claimed, [*tries, *unsent][0], tries)
    waiting = [one for one in unsent if one.transition is not GIVE_UP]
    refused = [one for one in unsent if one.transition is GIVE_UP]
    if waiting:
        snoozed = [one for one in waiting if one.transition is SNOOZE]
        return _row(claimed, (snoozed or waiting)[0].transition, letters, tries, [*tries, *refused], waiting)
    if len({one.last_error for one in refused}) == 1:
        return _row(claimed, GIVE_UP, letters, tries, tries, refused)
    return _row(claimed, DELIVER, letters, tries, [*tries, *refused])


def _own(claimed: Claimed, one: DeliveryOutcome, tries: Sequence[DeliveryOutcome]) -> ClaimOutcome:
    delivered = int(one.transition is DELIVER)
    return ClaimOutcome(
        claimed,
        one.transition,
        1 - delivered,
        delivered,
        None,
        tries,
        due_at=claimed.due_at if one.transition is GIVE_BACK else one.due_at,
        last_error=one.last_error,
    )


def _row(
    claimed: Claimed,
    transition: Transition[DeliveryState] | None,
    letters: bytearray,
    tries: Sequence[DeliveryOutcome],
    apart: Sequence[DeliveryOutcome],
    stay: Sequence[DeliveryOutcome] = (),
) -> ClaimOutcome:
    for one in apart:
        letters[one.position] = OWN
    # What was only claimed keeps its place among the others of its client.
    due = (
        [claimed.due_at]
        if transition is GIVE_BACK
        else [one.due_at for one in stay if one.due_at is not None]
    )
    return ClaimOutcome(
        claimed,
        transition,
        letters.count(WAITS),
        letters.count(MADE),
        text(letters),
        tries,
        apart,
        min(due, default=None),
        stay[0].last_error if stay else None,
    )


def letters_of(progress: str | None, pending: int, delivered: int) -> bytearray:
    """Return the letter of each position in a segment, by the columns of its row."""
    if progress is not None:
        return bytearray(progress.encode())
    return bytearray([WAITS]) * pending + bytearray([MADE]) * delivered  # one of them is 0


def text(letters: bytearray) -> str | None:
    """Return letters as the column `progress` has them: None if all deliveries wait, or all were made."""
    return None if len(letters) in (letters.count(WAITS), letters.count(MADE)) else letters.decode()
