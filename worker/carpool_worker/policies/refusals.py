"""Decides what follows when the API refuses a batch's body for good: which requests are at fault, if any is. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from carpool_worker.exceptions import ClaudeError

NAMED = re.compile(r"\brequests(?:\.(\d{1,6})(?=[.:\s]|$)|\[(\d{1,6})\])")
"""How an error names a request of the body: `requests.3.custom_id: Field required`."""

VARYING = re.compile(r"\S*\d\S*")
"""Words that differ between errors that say the same: places, ids, times."""

TOO_LARGE = 413
"""The status of a body that is too large: all its parts are refused alike until they are small enough."""


class Blame(Enum):
    """What becomes of a refused batch."""

    TAKE_OUT = "take out"
    """The error names requests: they are discarded, and the others go on."""
    SPLIT = "split"
    """It is cut in halves, as one of its requests may be at fault."""
    DISCARD = "discard"
    """Its only request is at fault."""
    WAIT = "wait"
    """Its only request may be at fault, or the lane: the other half will show."""
    PAUSE = "pause"
    """The lane is at fault, not a request: nothing is discarded, and the lane waits."""


@dataclass(frozen=True, slots=True)
class Relative:
    """A batch that was part of the same one: the refusal that it met, if any, and whether it was judged yet."""

    refusal: str | None
    is_judged: bool = True


@dataclass(frozen=True, slots=True)
class Family:
    """What is known about the lane of a refused batch.

    `ancestors` are the refusals of the batch that it was a part of, and of the one before that; `siblings` the other
    parts of that batch. `accepted` tells whether the API accepted any batch of the lane since the first of them was
    refused, `paused` is why the lane is paused, if it is.
    """

    ancestors: Sequence[str] = ()
    siblings: Sequence[Relative] = ()
    accepted: bool = False
    paused: str | None = None


def judge(error: ClaudeError, requests: int, family: Family) -> Blame:
    """Return what becomes of a batch of so many requests that was refused with this error.

    A mistyped header, or a relay without batches, is refused with the same words whatever the requests are. So once
    both halves of a batch were refused alike, and the lane has seen no success in between, no request is blamed.
    """
    words = gist(str(error))
    if error.status == TOO_LARGE or family.accepted:
        return _blame(error, requests)
    if family.paused is not None and gist(family.paused) == words:
        return Blame.PAUSE
    if not family.ancestors or gist(family.ancestors[0]) != words:
        return _blame(error, requests)
    alike = [one.refusal is not None and gist(one.refusal) == words for one in family.siblings]
    if any(alike) or (not family.siblings and [gist(one) for one in family.ancestors] == [words] * 2):
        return Blame.PAUSE
    if requests == 1 and not all(one.is_judged for one in family.siblings):
        return Blame.WAIT
    return _blame(error, requests)


def named_requests(message: str, requests: int) -> list[int]:
    """Return the places of the requests that an error names, in a body of so many."""
    places = {int(dotted or bracketed) for dotted, bracketed in NAMED.findall(message)}
    return sorted(place for place in places if place < requests)


def gist(message: str) -> str:
    """Return what an error says without what differs from one to the next."""
    return VARYING.sub("#", message)


def _blame(error: ClaudeError, requests: int) -> Blame:
    if requests == 1:
        return Blame.DISCARD
    return Blame.TAKE_OUT if named_requests(str(error), requests) else Blame.SPLIT
