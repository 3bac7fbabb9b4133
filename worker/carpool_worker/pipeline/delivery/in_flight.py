"""What a run of the courier has in memory: claimed rows, how far each has come, and what is to be recorded of them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from time import monotonic

from carpool_worker import database
from carpool_worker.pipeline.delivery.claims import Findings
from carpool_worker.policies.deliveries import Decision, Event, Sent, after_delivery
from carpool_worker.states import DELIVER, GIVE_BACK, GIVE_UP, DeliveryState
from carpool_worker.store.deliveries.outcomes import (
    MADE,
    Claimed,
    ClaimOutcome,
    DeliveryOutcome,
    SendAttempt,
    concluded,
    in_progress,
)
from carpool_worker.units import SECOND, Milliseconds

PROGRESS_SECONDS = 1.0
"""After which the progress of a row is recorded that is not finished: what a crash may make receivers get twice."""


class OpenClaim:
    """A claimed row, and how far its deliveries have come."""

    __slots__ = ("claimed", "is_failing", "left", "letters", "since", "tries", "unsent")

    def __init__(self, claimed: Claimed, is_failing: bool) -> None:
        self.claimed = claimed
        self.is_failing = is_failing  # its endpoint has accepted nothing since it began to fail
        self.letters = claimed.letters()
        self.left = claimed.pending  # deliveries of which it is not known yet what becomes of them
        self.tries: list[DeliveryOutcome] = []
        self.unsent: list[DeliveryOutcome] = []
        self.since: float | None = None  # what is not recorded


class InFlight:
    """The claims of a run and their outcomes; `schedule` is the seconds between tries."""

    def __init__(self, schedule: Sequence[float]) -> None:
        self._schedule = schedule
        self._changed: dict[OpenClaim, None] = {}
        self._drained: Findings | None = None  # could not be recorded
        self.findings = Findings()
        self.open = 0
        self.tally: Counter[DeliveryState] = Counter()
        self.notices: Counter[str] = Counter()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is claimed, and nothing left to be recorded."""
        return not self.open and not self._drained and not self._changed and not self.findings

    def add(self, claimed: Claimed, is_failing: bool) -> OpenClaim:
        """Add a claimed row."""
        self.open += 1
        claim = OpenClaim(claimed, is_failing)
        if not claim.left:
            self._count_down(claim, 0)
        return claim

    def settle(
        self, claim: OpenClaim, request_id: str, position: int, sent: Sent, seconds: float = 0.0
    ) -> None:
        """Note what became of one delivery: sending it took `seconds` and ended with `sent`."""
        decision = after_delivery(sent, claim.claimed.attempt, self._schedule, random.random())  # noqa: S311
        is_made = decision.state is DELIVER.target
        self.tally[decision.state] += 1
        if is_made and not claim.claimed.is_own:
            claim.letters[position] = MADE
        else:
            milliseconds = Milliseconds(round(seconds * SECOND))
            outcome = _outcome(request_id, position, sent, decision, milliseconds)
            (claim.tries if decision.counts else claim.unsent).append(outcome)
            if sent.event is Event.DEFERRED and sent.detail:
                self.notices[sent.detail] += 1
        if decision.counts:
            to = claim.claimed.target if claim.claimed.channel == "webhook" else claim.claimed.receiver
            self._note_health(to, is_made, decision.stops_endpoint)
        self._count_down(claim, 1)

    def give_back(self, claim: OpenClaim, count: int, reason: str | None) -> None:
        """Note that `count` deliveries of a row are not sent in this run."""
        outcome = DeliveryOutcome.given_back("", claim.claimed.position, database.now(), reason)
        self.tally[GIVE_BACK.target] += count
        claim.unsent.append(outcome)
        self._count_down(claim, count)

    def refuse(self, claim: OpenClaim, reason: str) -> None:
        """Note that nothing of a row is sent, now or later."""
        attempt = SendAttempt(database.now(), counts=False)
        claim.unsent.append(DeliveryOutcome.given_up("", claim.claimed.position, attempt, reason))
        self.tally[GIVE_UP.target] += claim.left
        self._count_down(claim, claim.left)

    def drain(self) -> Findings | None:
        """Remove and return what is to be recorded now: all that is finished, and progress that is not new."""
        if self._drained:
            drained, self._drained = self._drained, None
            return drained
        before = monotonic() - PROGRESS_SECONDS
        ready = [one for one in self._changed if not one.left or (one.since or 0.0) < before]
        self.findings.outcomes = list(self._outcomes(ready))
        if not self.findings:
            return None
        findings, self.findings = self.findings, Findings()
        return findings

    def restore(self, findings: Findings) -> None:
        """Keep what was drained for later, as it could not be recorded."""
        self._drained = findings

    def _note_health(self, url: str, is_made: bool, stops: bool) -> None:
        (self.findings.well if is_made else self.findings.failing).add(url)
        if stops:
            self.findings.gone.add(url)

    def _count_down(self, claim: OpenClaim, count: int) -> None:
        claim.left -= count
        if claim.since is None:
            claim.since = monotonic()
            self._changed[claim] = None

    def _outcomes(self, ready: Iterable[OpenClaim]) -> Iterator[ClaimOutcome]:
        for claim in ready:
            del self._changed[claim]
            claim.since = None
            tries, claim.tries = claim.tries, []
            if claim.left:
                yield in_progress(claim.claimed, claim.letters, tries)
            else:
                self.open -= 1
                yield concluded(claim.claimed, claim.letters, tries, claim.unsent)


def _outcome(
    request_id: str, position: int, sent: Sent, decision: Decision, milliseconds: Milliseconds
) -> DeliveryOutcome:
    now = database.now()
    attempt = SendAttempt(now - milliseconds, milliseconds, sent.status, sent.detail, decision.counts)
    where = (request_id, position, attempt)
    if decision.state is DELIVER.target:
        return DeliveryOutcome.delivered(*where)
    if decision.state is GIVE_UP.target:
        return DeliveryOutcome.given_up(*where, decision.error, stops_endpoint=decision.stops_endpoint)
    return DeliveryOutcome.snoozed(*where, now + round(decision.seconds * SECOND), decision.error)
