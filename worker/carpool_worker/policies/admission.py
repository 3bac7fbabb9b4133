"""Decides which sealed batches may be posted now: as many as the account's queue has room for, while a window is open.

Those of the highest priority go first, and of these the oldest: low ones may wait for as long as higher ones come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from carpool_worker.policies.windows import Windows


@dataclass(frozen=True, slots=True)
class SubmitPolicy:
    """How sealed batches are posted."""

    upload_timeout: float  # seconds that a body may take to upload
    queue_limit: int  # requests that Anthropic may have queued, in all batches
    windows: Windows = ()  # when batches may be posted; none is always
    cache_shared_prompts: bool = False


def next_up(
    ready: Iterable[Ready], probes: Mapping[str, int], queued: int, queue_limit: int, at: int
) -> list[str]:
    """Return which of the `ready`, that come in turn, may go while so many requests are `queued` at Anthropic.

    None overtakes one before it, of a higher priority or older, that only waits for room. Of a paused lane the first
    goes alone, once its probe is due (`probes`: lane and milliseconds since the epoch). One that never fits is let
    through too: to be split.
    """
    chosen: list[str] = []
    room = queue_limit - queued
    asking: set[str] = set()
    for batch in ready:
        if batch.lane in probes:
            if batch.lane in asking or probes[batch.lane] > at:
                continue
            asking.add(batch.lane)
        if batch.request_count > room:
            return [*chosen, batch.id] if batch.request_count > queue_limit else chosen
        room -= batch.request_count
        chosen.append(batch.id)
    return chosen


def waits_for_room(queued: int, queue_limit: int) -> str:
    """Say why a batch isn't posted that could be."""
    return f"waits: {queued:,} of {queue_limit:,} requests are queued at Anthropic"


class Ready(NamedTuple):
    """A sealed batch whose back-off is over."""

    id: str
    lane: str
    request_count: int
    submit_by: int | None = None  # milliseconds since the epoch; no window holds it then
