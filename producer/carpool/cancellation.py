"""Cancel commands, which a producer appends to the inbox.

A full inbox accepts them too, as they contain no requests. They may be in another shard than their requests: what the
worker reads before those, it remembers until they come. The module does no input or output, so Producer and
AsyncProducer share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import time_ns

from carpool.contract import CANCEL_FIELD, INBOX, MAX_CANCEL_IDS, Cancel, encode_cancel
from carpool.options import Options
from carpool.outstanding import checked_id
from carpool.packer import Command


class CancelCommand:
    """One call of `cancel` or, if `ids` is None, of `cancel_all`. Raises InvalidRequest for a malformed id."""

    def __init__(self, options: Options, ids: Sequence[str] | None) -> None:
        self._options = options
        self._ids = ids if ids is None else list(dict.fromkeys(map(checked_id, ids)))
        self._at = _milliseconds()

    def commands(self) -> list[Command]:
        """Return the Redis commands, one pipeline; none if there is nothing to cancel."""
        entries: list[Command] = [
            ("XADD", INBOX, "*", CANCEL_FIELD, encode_cancel(Cancel(self._options.client, ids, self._at)))
            for ids in self._parts()
        ]
        durable = self._options.durable
        return [*entries, durable.sync] if entries and durable else entries

    def confirm(self, replies: Sequence[object]) -> None:
        """Check the replies; raises RedisUnavailable if Redis refused, and NotDurable as an enqueue does."""
        durable = self._options.durable
        *appended, last = replies if durable else [*replies, None]
        for reply in appended:
            if isinstance(reply, Exception):
                raise self._options.unavailable(reply)
        if durable:
            durable.confirm_sync(last)

    @property
    def seconds_to_wait(self) -> float:
        """Seconds until an enqueue has a later timestamp (milliseconds), so that `cancel_all` can't include it."""
        return 0.0 if self._ids is not None else max(0.0, (self._at + 1) / 1_000 - time_ns() / 1e9)

    def _parts(self) -> list[list[str] | None]:
        if self._ids is None:
            return [None]
        starts = range(0, len(self._ids), MAX_CANCEL_IDS)
        return [self._ids[start : start + MAX_CANCEL_IDS] for start in starts]


def _milliseconds() -> int:
    return time_ns() // 1_000_000
