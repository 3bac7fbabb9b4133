"""Feeds a file's requests to the inbox, in chunks; where that is full it waits, and goes on with what is left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from carpool import CarpoolError, Producer, QueueFull, Request
from carpool.envelopes import EnqueueOptions
from carpool_worker.exceptions import WorkerError
from carpool_worker.files.request_lines import Line

CHUNK_REQUESTS = 2_000
CHUNK_BYTES = 8_000_000
"""What is held in memory at a time; a larger request travels alone."""

Item = tuple[Line, Request]


class Stopped(WorkerError):
    """Not all requests could be enqueued; `line` is the number of the first that was not."""

    def __init__(self, reason: str, line: int) -> None:
        super().__init__(reason)
        self.line = line


class Feeder:
    """Enqueues items on common terms.

    `taken` hears how many went in, `wait` is called when the inbox is full (None: it stops then).
    """

    def __init__(
        self,
        producer: Producer,
        common: EnqueueOptions,
        taken: Callable[[int], None],
        wait: Callable[[QueueFull], None] | None,
    ) -> None:
        self._producer = producer
        self._common = common
        self._taken = taken
        self._wait = wait

    def feed(self, items: Iterable[Item]) -> None:
        """Enqueue all; raises Stopped where the inbox is full and nobody waits, or Redis can't be used."""
        for chunk in _chunks(items):
            while chunk:
                chunk = self._enqueue(chunk)

    def _enqueue(self, chunk: list[Item]) -> list[Item]:
        """Return those that did not go in."""
        try:
            self._producer.enqueue_many([request for _, request in chunk], **self._common)
        except QueueFull as refusal:
            accepted = set(refusal.accepted)
            left = [item for item in chunk if item[0].id not in accepted]
            self._taken(len(chunk) - len(left))
            if self._wait is None:
                raise Stopped(str(refusal), left[0][0].number) from refusal
            self._wait(refusal)
            return left
        except CarpoolError as error:
            raise Stopped(str(error), chunk[0][0].number) from error
        self._taken(len(chunk))
        return []


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    chunk: list[Item] = []
    size = 0
    for item in items:
        if chunk and (len(chunk) == CHUNK_REQUESTS or size + item[0].size > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(item)
        size += item[0].size
    if chunk:
        yield chunk
