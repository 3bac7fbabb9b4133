"""Clients' batches as they were a moment ago: a loop that asks again and again costs the database little."""

from __future__ import annotations

from collections import OrderedDict
from time import monotonic

from carpool_worker.models import ClientBatch

SECONDS = 2.0
"""How old a batch may be that is shown."""

MOST_KEPT = 10_000


class BatchCache:
    """The batches that were shown lately, by their client and id."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], tuple[float, ClientBatch]] = OrderedDict()

    def get(self, client: str, shown: str) -> ClientBatch | None:
        """Return a batch that is new enough."""
        at, batch = self._kept.get((client, shown), (0.0, None))
        return batch if at > monotonic() - SECONDS else None

    def put(self, client: str, shown: str, batch: ClientBatch) -> None:
        """Keep a batch that was just read."""
        self._kept[client, shown] = monotonic(), batch
        self._kept.move_to_end((client, shown))
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)

    def forget(self, client: str, shown: str) -> None:
        """Drop a batch that was changed here."""
        self._kept.pop((client, shown), None)
