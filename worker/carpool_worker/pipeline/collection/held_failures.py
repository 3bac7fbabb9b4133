"""Holds back the results that did not succeed until all results were read: one that succeeded beats them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from carpool_worker.claude import results
from carpool_worker.claude.results import ReadChunk, ReadResult

MOST_BYTES = 32_000_000
"""Failures of a few hundred bytes for each request of the largest batch fit; beyond that they are let go early."""


class HeldFailures:
    """The failures of one read so far, by custom_id."""

    def __init__(self) -> None:
        self._held: dict[str, ReadResult] = {}
        self._bytes = 0

    def add(self, chunk: ReadChunk) -> Iterator[dict[str, ReadResult]]:
        """Hold a chunk's failures; yield those held, for a transaction each, if they take too much memory."""
        for custom_id, failure in chunk.others.items():
            self._held[custom_id] = failure
            self._bytes += len(failure.body)
        if self._held:
            for custom_id in chunk.succeeded:
                self._held.pop(custom_id, None)
        if self._bytes > MOST_BYTES:
            yield from self.release()

    def release(self) -> Iterator[dict[str, ReadResult]]:
        """Yield all that are held, for a transaction each, and hold none."""
        held, self._held, self._bytes = iter(self._held.items()), {}, 0
        while some := dict(islice(held, results.CHUNK_LINES)):
            yield some
