"""The fence around a post: what comes too late, or for a batch that another process has taken over, is not sent.

A process can stand still at any moment: stopped, paused with its container, suspended with its machine. When it wakes,
the batch that it was about to post may long have been given up and posted by another. So the end of the body is held
back until the time is not over and the tables still say that this post is the one that counts; without its end a body
makes no batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO

from carpool_worker.exceptions import PostOvertaken

UPLOAD_CHUNK = 1 << 20
HELD_BACK = 64
"""Bytes of the body's end that wait for the last look: so few that one write sends them."""


def elapsed() -> float:
    """Return seconds from some fixed moment on, those included in which the machine was suspended."""
    return time.clock_gettime(CLOCK)


CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""CLOCK_MONOTONIC counts a suspension on macOS, but not on Linux."""


def always() -> bool:
    """Return that a post is still the one that counts: nobody else could take it over."""
    return True


@dataclass(frozen=True)
class Fence:
    """Lets the end of a body pass only within `seconds` from when this was made, and while `is_ours` returns True.

    `is_ours` asks the tables; what it raises ends the post as well. `clock` returns seconds, suspensions included.
    """

    seconds: float
    is_ours: Callable[[], bool] = always
    clock: Callable[[], float] = elapsed
    began_at: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "began_at", self.clock())

    def pass_through(self, body: IO[bytes], length: int) -> Iterator[bytes]:
        """Yield the `length` bytes of a body in chunks, the last few once nothing speaks against it.

        Raises:
            TimeoutError: the time was over before the end.
            PostOvertaken: the post is no longer the one that counts.
        """
        end = max(0, length - HELD_BACK)
        sent = 0
        while sent < end and (chunk := body.read(min(UPLOAD_CHUNK, end - sent))):
            self._check_time()
            sent += len(chunk)
            yield chunk
        if not self.is_ours():
            raise PostOvertaken
        self._check_time()  # after the look, which may have taken long
        yield body.read()

    def _check_time(self) -> None:
        # httpx limits each write but not all together: an endless upload could outlast the search for its batch.
        if self.clock() - self.began_at > self.seconds:
            raise TimeoutError("the upload took too long")
