"""How long batches take, learned from those that ended: a histogram on a logarithmic scale. Pure.

Bucket n holds what took longer than 2^((n-1)/8) seconds and at most 2^(n/8): each is 9 % wide, from a tenth of a second
to Anthropic's 24 hours in some 160 of them. With each batch that ends, all that was learned before fades by FADES, so
the last fifty or so batches count, and no time of day has to be compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime

from carpool_worker.units import SECOND, Milliseconds

PER_DOUBLING = 8
"""Buckets from a duration to its double."""

FADES = 0.98
"""What is left of a bucket's weight when another batch ends; a batch that has just ended weighs 1."""

LEAST_WEIGHT = 0.05
"""A bucket that weighs less is forgotten, so a model and hour has no more buckets than it needs."""

SHORTEST = 0.001
"""Seconds: what took less counts as that long."""

Histogram = Mapping[int, float]
"""The weight of each bucket that has any."""


def bucket_of(seconds: float) -> int:
    """Return the bucket of a duration."""
    return math.ceil(math.log2(max(seconds, SHORTEST)) * PER_DOUBLING)


def longest_in(bucket: int) -> float:
    """Return the longest duration in a bucket, in seconds."""
    return float(2 ** (bucket / PER_DOUBLING))


def quantile(histogram: Histogram, share: float, longer_than: float = 0.0) -> float | None:
    """Return the seconds within which this share (0 to 1) of batches ended, of those that took `longer_than` seconds.

    None if nothing like it was learned.
    """
    over = sorted(
        (bucket, weight) for bucket, weight in histogram.items() if longest_in(bucket) > longer_than
    )
    wanted = sum(weight for _, weight in over) * share
    for bucket, weight in over:
        wanted -= weight
        if wanted <= 1e-9:
            return longest_in(bucket)
    return None


def chance(histogram: Histogram, seconds: float) -> float | None:
    """Return the share (0 to 1) of batches that took no longer than that; None if nothing was learned.

    What is in the bucket that `seconds` is in counts as longer.
    """
    total = sum(histogram.values())
    if not total:
        return None
    return sum(weight for bucket, weight in histogram.items() if longest_in(bucket) <= seconds) / total


def hour_of(at: Milliseconds) -> int:
    """Return the hour of the day, UTC, by which durations are learned: the one in which a batch was posted."""
    return datetime.fromtimestamp(at / SECOND, UTC).hour
