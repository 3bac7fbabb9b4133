"""How much of a quota was taken at each time, by what is certain: pure accounting, so that it can be tested.

A request surely counts from the moment at which it was stored, or its producer knew it to be accepted, until its end
began to be recorded. In truth it counts for a little longer, at both ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple


class Stay(NamedTuple):
    """When a request surely counted, in milliseconds since the epoch."""

    began: int
    ended: int


class Call(NamedTuple):
    """An enqueue: when it began and was acknowledged, in milliseconds since the epoch, and what it had accepted."""

    began: int
    ended: int
    ids: Sequence[str]


def most(stays: Iterable[Stay], until: float = float("inf")) -> int:
    """Return how many counted at once at most, before a moment."""
    moves = [
        (moment, step)
        for stay in stays
        if stay.ended > stay.began
        for moment, step in zip(stay, (1, -1), strict=True)
    ]
    highest = waiting = 0
    for moment, step in sorted(moves):  # who leaves at a moment makes room for who comes
        if moment >= until:
            break
        waiting += step
        highest = max(highest, waiting)
    return highest


def too_many(
    calls: Iterable[Call], stays: Mapping[str, Stay], quota: int, unlimited: Sequence[Stay] = ()
) -> Iterator[str]:
    """Yield a sentence for each call that was let in though there was no room while it was under way.

    `unlimited` are times at which nobody was refused, as Redis had lost what it knew.
    """
    for call in calls:
        if any(call.began <= one.ended and call.ended >= one.began for one in unlimited):
            continue
        others = sum(
            stay.began <= call.began and stay.ended >= call.ended
            for id_, stay in stays.items()
            if id_ not in call.ids
        )
        if others + len(call.ids) > quota:
            yield f"{len(call.ids)} requests were let in beside {others}, with a quota of {quota}"
