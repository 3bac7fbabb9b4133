"""Decides when a batch is full or due, and how many requests fit into it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from carpool_worker.policies.deadlines import DeadlineRule
from carpool_worker.policies.fairness import Weights
from carpool_worker.policies.windows import Windows, first_open, is_open, longest_closed
from carpool_worker.units import DAY, SECOND, Milliseconds

BODY_FRAME_BYTES = len(b'{"requests":[]}')
ITEM_FRAME_BYTES = len(b'{"custom_id":"","params":},') + 32
"""Bytes that a batch's JSON body adds to the params: once, and for each request, whose id has 32 digits."""

SHORTEST_FLUSH = 0.5
"""Seconds that a batch waits for more requests at least: each costs calls, of which an account may make 1,000 a minute.
"""

OVERLAP_COUNT = 20_000
"""Requests with which a batch is full while as many again wait behind it: few enough for the stages to overlap, and so
many that the calls for each batch, and the prompts that each must cache anew, weigh little."""

MOST_OVERLAPPING = 4
"""Batches of a lane under way from which on none is sealed early: at Anthropic they take longer than anything here, and
more of them would only cost calls."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a batch is full (requests, bytes of its body) or due (seconds since its first request, in a window)."""

    count: int
    body_bytes: int
    seconds: float
    windows: Windows = ()
    may_overlap: bool = True  # whether batches may be sealed early, see `with_lane`
    behind: int = 0  # requests in the inbox that have not been read yet
    deadlines: DeadlineRule = field(default_factory=DeadlineRule)  # by which a batch is due before
    weights: Weights = field(default_factory=dict)  # of the clients, where a batch has not room for all

    @property
    def max_age(self) -> Milliseconds:
        """How long after its first request a batch is due."""
        return Milliseconds(int(self.seconds * SECOND))

    @property
    def are_many_behind(self) -> bool:
        """Whether so many requests wait in the inbox that a batch may be sealed early."""
        return self.may_overlap and self.behind >= OVERLAP_COUNT

    def with_lane(self, under_way: int, at: Milliseconds) -> Limits:
        """Return the limits for a lane of which so many batches are sealed and not ended.

        While many more requests wait in the inbox, and few of the lane's batches are under way, a batch is full with
        OVERLAP_COUNT: it is posted, run and collected while the others are read. One that a window would keep waiting
        gains nothing from that.
        """
        early = self.are_many_behind and under_way < MOST_OVERLAPPING and is_open(self.windows, at)
        return replace(self, count=min(self.count, OVERLAP_COUNT)) if early else self

    def due_at(self, opened_at: int) -> Milliseconds:
        """Return when a batch opened at that time is due, unless it is full before; in milliseconds since the epoch."""
        return first_open(self.windows, Milliseconds(opened_at + self.max_age))

    def longest_open(self, at: Milliseconds) -> Milliseconds:
        """Return how many milliseconds a batch may stay open, given how long windows are closed around `at`."""
        return Milliseconds(self.max_age + longest_closed(self.windows, at // DAY) * SECOND)


def item_bytes(params_bytes: int) -> int:
    """Return how many bytes of a batch's body a request takes."""
    return params_bytes + ITEM_FRAME_BYTES


def fitting(sizes: Sequence[int], count: int, used_bytes: int, limits: Limits) -> int:
    """Return how many of the next requests, with params of `sizes` bytes, still fit into a batch of `count` requests.

    An empty batch takes the first request whatever its size; otherwise it would wait forever.
    """
    room = max(0, limits.count - count)
    total = BODY_FRAME_BYTES + used_bytes
    for n, size in enumerate(sizes[:room]):
        total += item_bytes(size)
        if total > limits.body_bytes and count + n > 0:
            return n
    return min(room, len(sizes))


def before_edge(segments: Sequence[int], sizes: Sequence[int], n: int, count: int, limits: Limits) -> int:
    """Return how many of the next requests go into a batch of `count` requests in which `n` fit, by their segments.

    `sizes` are the bytes of their params. A batch is closed at the edge of a segment, so that each segment is read for
    one batch; unless that would leave more than a tenth of the batch empty, in requests or in bytes.
    """
    if n == 0 or n == len(segments) or segments[n] != segments[n - 1]:
        return n
    edge = n
    while edge and segments[edge - 1] == segments[n]:
        edge -= 1
    left_out = sum(map(item_bytes, sizes[edge:n]))
    is_nearly_full = 10 * (n - edge) <= limits.count and 10 * left_out <= limits.body_bytes
    return edge if is_nearly_full and count + edge > 0 else n
