"""Cancels at once what an operator names, and says in true words what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from carpool_worker.database import read
from carpool_worker.pipeline.batching import canceler
from carpool_worker.states import CANCEL
from carpool_worker.store.requests import cancellations
from carpool_worker.store.requests.cancellations import Standing


@dataclass
class Outcome:
    """What became of the requests that were named, by count, and those that the tables don't know."""

    canceled: int = 0
    at_anthropic: int = 0
    ended: int = 0
    unknown: list[str] = field(default_factory=list)

    def add(self, ids: Sequence[str], before: Mapping[str, Standing], after: Mapping[str, Standing]) -> None:
        """Count some more: how they stood before and how after."""
        for id_ in ids:
            if id_ not in after:
                self.unknown.append(id_)
            elif id_ in before and before[id_].final:
                self.ended += 1
            elif after[id_].state is CANCEL.target and not after[id_].answered:
                self.canceled += 1
            elif after[id_].state is CANCEL.target or not after[id_].final:
                self.at_anthropic += 1
            else:
                self.ended += 1

    def __str__(self) -> str:
        parts = [
            (self.canceled, "canceled before Anthropic ran them: they cost nothing"),
            (
                self.at_anthropic,
                "at Anthropic: their answers will be dropped, those already made are paid for",
            ),
            (self.ended, "had ended already"),
            (len(self.unknown), "unknown: never enqueued, or still in the inbox"),
        ]
        return " · ".join(f"{count:,} {words}" for count, words in parts if count) or "nothing to cancel"


def cancel_now(engine: sa.Engine, ids: Sequence[str]) -> Outcome:
    """Cancel these requests, whosever they are."""
    outcome = Outcome()
    for chunk in canceler.in_chunks(ids):
        with read(engine) as connection:
            before = cancellations.standing(connection, chunk)
        canceler.request_cancellation(engine, chunk)
        canceler.sweep(engine)
        with read(engine) as connection:
            after = cancellations.standing(connection, chunk)
        outcome.add(chunk, before, after)
    return outcome
