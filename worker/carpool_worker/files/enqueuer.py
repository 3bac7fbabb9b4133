"""Enqueues a file's requests in chunks; while the inbox is full it waits, then continues with what is left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from carpool import CarpoolError, Producer, QueueFull, Request
from carpool.enqueue_options import EnqueueOptions
from carpool_worker.exceptions import WorkerError
from carpool_worker.files.request_lines import RequestLine

CHUNK_REQUESTS = 2_000
CHUNK_BYTES = 8_000_000
"""How much is in memory at a time; a larger request is enqueued alone."""

Item = tuple[RequestLine, Request]


class Stopped(WorkerError):
    """Not all requests could be enqueued; `line` is the number of the first that was not."""

    def __init__(self, reason: str, line: int) -> None:
        super().__init__(reason)
        self.line = line


class FileEnqueuer:
    """Enqueues requests with the same options.

    Calls `accepted` with the number of requests accepted, and `wait` when the inbox is full (None: stop then).
    """

    def __init__(
        self,
        producer: Producer,
        options: EnqueueOptions,
        accepted: Callable[[int], None],
        wait: Callable[[QueueFull], None] | None,
    ) -> None:
        self._producer = producer
        self._options = options
        self._accepted = accepted
        self._wait = wait

    def enqueue_all(self, items: Iterable[Item]) -> None:
        """Enqueue all items; raises Stopped if the inbox is full and `wait` is None, or if Redis can't be used."""
        for chunk in _chunks(items):
            while chunk:
                chunk = self._enqueue(chunk)

    def _enqueue(self, chunk: list[Item]) -> list[Item]:
        """Enqueue a chunk; return the items that a full inbox did not accept."""
        try:
            self._producer.enqueue_many([request for _, request in chunk], **self._options)
        except QueueFull as refusal:
            ids = set(refusal.accepted)
            left = [item for item in chunk if item[0].id not in ids]
            self._accepted(len(chunk) - len(left))
            if self._wait is None or (refusal.quota and refusal.quota.never_fits):
                raise Stopped(str(refusal), left[0][0].number) from refusal
            self._wait(refusal)
            return left
        except CarpoolError as error:
            raise Stopped(str(error), chunk[0][0].number) from error
        self._accepted(len(chunk))
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
