"""Advice on lanes whose batches are submitted too small."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from carpool_worker.advisor.advice import Advice
from carpool_worker.formatting import age, counted
from carpool_worker.store.reports.samples import Opened
from carpool_worker.units import SECOND

LEAST_BATCHES = 20
SMALL = 100
"""There is no advice on lanes with fewer batches than this, or with this many requests in a batch on average."""

INTERVALS = (300, 900, 3_600, 14_400)
"""Seconds that a batch could wait instead."""

WORTH_IT = 4
"""A longer wait is advised if it turns this many batches into one."""

HOW = (
    "Set flush_interval = {interval} (now {now:g}): an answer comes up to {longer} later. By itself that neither "
    "costs nor saves anything; it takes fewer calls of the rate limit, and shared prompts hit the cache more often."
)


def advise(batches: Sequence[Opened], flush_interval: float) -> Iterator[Advice]:
    """Yield advice for each lane; `batches` are in order of time, `flush_interval` is in seconds."""
    lanes: dict[str, list[Opened]] = defaultdict(list)
    for batch in batches:
        lanes[batch.lane].append(batch)
    for lane, own in lanes.items():
        requests = sum(batch.request_count for batch in own)
        if len(own) >= LEAST_BATCHES and requests < SMALL * len(own):
            yield from _advice(lane, own, requests, flush_interval)


def _advice(lane: str, own: Sequence[Opened], requests: int, flush_interval: float) -> Iterator[Advice]:
    for interval in (seconds for seconds in INTERVALS if seconds > flush_interval):
        count = pooled([batch.opened_at for batch in own], interval)
        if count * WORTH_IT <= len(own):
            took = counted(len(own), "batch", "batches")
            each = counted(round(requests / len(own)), "request")
            facts = {"batches": len(own), "requests": requests, "flush_interval": interval, "would_be": count}
            yield Advice(
                kind="small_batches",
                subject=lane,
                what=f"{took} took {each} each; {count:,} would suffice.",
                how=HOW.format(interval=interval, now=flush_interval, longer=age(interval * SECOND)),
                facts={"lane": lane} | facts,
            )
            return


def pooled(opened: Sequence[int], interval: float) -> int:
    """Return how many batches there would have been, had each waited this many seconds from its first request."""
    count, closes = 0, 0.0
    for at in opened:
        if at >= closes:
            count += 1
            closes = at + interval * 1000
    return count
