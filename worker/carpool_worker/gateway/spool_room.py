"""Room on the disk for the bodies of creates of batches."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from carpool_worker.gateway.errors import FULL_RETRY_AFTER, GatewayError

COPIES = 2
"""Of a body on disk, at most: one that is not written as SDKs write it is written again."""

SPARE_BYTES = 500_000_000
"""Left free on the disk: others need it too."""


class Spools:
    """The disk that the creates of this process may need."""

    def __init__(self) -> None:
        self._reserved = 0

    @contextmanager
    def reserving(self, size: int) -> Iterator[None]:
        """Reserve the disk that a body of `size` bytes may take; raises GatewayError if there is not as much."""
        needed = COPIES * size
        if shutil.disk_usage(tempfile.gettempdir()).free < self._reserved + needed + SPARE_BYTES:
            message = "Overloaded: the gateway's disk has no room for this batch now."
            raise GatewayError(529, message, retry_after=FULL_RETRY_AFTER)
        self._reserved += needed
        try:
            yield
        finally:
            self._reserved -= needed
