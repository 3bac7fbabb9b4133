"""Packs checked requests into inbox entries, and keeps account of which of them Redis took.

It does no input or output, so that Producer and AsyncProducer share it: they send `commands()` as one
pipeline, hand the replies to `settle`, and repeat until nothing is `pending`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from redis.exceptions import NoScriptError, OutOfMemoryError

from carpool.contract import (
    APPEND_SCRIPT,
    ENTRY_FIELD,
    INBOX,
    MAX_ENTRY_BYTES,
    MAX_ENTRY_REQUESTS,
    QUEUED,
    Envelope,
    encode_entry,
)
from carpool.envelopes import Common, Params, Request, terms
from carpool.exceptions import CarpoolError, InvalidRequest, QueueFull, RedisUnavailable, SourceFailed
from carpool.options import Options
from carpool.request_ids import RequestIds

PIPELINE_ENTRIES = 8
PIPELINE_BYTES = 2_000_000
"""Entries that travel in one round trip: enough to hide it, few enough to keep memory low."""

ENVELOPE_BYTES = 150
"""About what an Envelope takes besides its contents."""

SCRIPT_SHA = hashlib.sha1(APPEND_SCRIPT.encode(), usedforsecurity=False).hexdigest()

Command = tuple[str | bytes | int | float, ...]


class _Entry(msgspec.Struct, frozen=True):
    ids: list[str]
    packed: bytes


class Packer:
    """Requests of one call on their way into the inbox; `accepted` holds the ids that Redis took."""

    def __init__(self, options: Options, common: Common) -> None:
        self.accepted = RequestIds()
        self.pending: list[_Entry] = []
        self._terms = terms(options.client, allow_http=options.allow_http, **common)
        self._options = options
        self._failure: CarpoolError | None = None
        self._added = 0
        self._load_script = False
        self._pending_bytes = 0
        self._open: list[Envelope] = []
        self._open_bytes = 0

    def add(self, item: Params | Request) -> bool:
        """Check and pack one request; True when enough is pending for a round trip.

        Raises InvalidRequest; what was added before stays.
        """
        common = self._terms
        envelope = common.seal_request(item) if isinstance(item, Request) else common.seal(item)
        size = ENVELOPE_BYTES + len(envelope.params) + len(envelope.metadata or b"")
        if self._open_bytes + size > MAX_ENTRY_BYTES or len(self._open) == MAX_ENTRY_REQUESTS:
            self.close_entry()
        self._open.append(envelope)
        self._open_bytes += size
        self._added += 1
        return len(self.pending) >= PIPELINE_ENTRIES or self._pending_bytes >= PIPELINE_BYTES

    def close_entry(self) -> None:
        """Move the requests of the open entry to `pending`."""
        if self._open:
            packed = encode_entry(self._open)
            self.pending.append(_Entry([envelope.id for envelope in self._open], packed))
            self._pending_bytes += len(packed)
            self._open, self._open_bytes = [], 0

    def commands(self) -> list[Command]:
        """Return the Redis commands, one pipeline, that append the pending entries."""
        load: list[Command] = [("SCRIPT LOAD", APPEND_SCRIPT)] if self._load_script else []
        return load + [
            (
                "EVALSHA",
                SCRIPT_SHA,
                2,
                INBOX,
                QUEUED,
                len(entry.ids),
                self._options.max_queued,
                ENTRY_FIELD,
                entry.packed,
            )
            for entry in self.pending
        ]

    def settle(self, replies: Sequence[Any]) -> None:
        """Take the replies to `commands()`, errors among them as values, and account for each entry.

        What met a Redis that has not got the script stays pending, to be sent together with it.
        Raises QueueFull where the inbox or Redis' memory is full, RedisUnavailable for other refusals.
        """
        entries, self.pending, self._pending_bytes = self.pending, [], 0
        refusals = []
        for entry, reply in zip(entries, replies[-len(entries) :], strict=True):
            if isinstance(reply, int) and reply >= 0:
                self.accepted.extend(entry.ids)
            elif isinstance(reply, NoScriptError) and not self._load_script:
                self.pending.append(entry)
            else:
                refusals.append(reply)
        self._load_script = bool(self.pending)
        if refusals:
            refusal = self._refusal(refusals[0])
            refusal.accepted = self.accepted
            raise refusal

    def unanswered(self, error: Exception) -> RedisUnavailable:
        """Return the error to raise when no replies to `commands()` came: those requests are unknown."""
        failure = self._options.unavailable(error)
        failure.accepted = self.accepted
        failure.unknown = RequestIds(one for entry in self.pending for one in entry.ids)
        return failure

    @contextmanager
    def holding_failure(self) -> Iterator[None]:
        """Hold back an invalid request's error, or the source's own, until `finish`: what precedes it counts."""
        try:
            yield
        except InvalidRequest as error:
            error.index = self._added
            self._failure = error
        except CarpoolError:
            raise
        except Exception as error:
            self._failure = SourceFailed()
            self._failure.__cause__ = error

    def finish(self) -> RequestIds:
        """Return the accepted ids, or raise the error that was held back."""
        if self._failure:
            self._failure.accepted = self.accepted
            raise self._failure
        return self.accepted

    def _refusal(self, reply: object) -> CarpoolError:
        if isinstance(reply, OutOfMemoryError):
            return QueueFull("Redis is out of memory, so the inbox takes no more requests for now")
        if isinstance(reply, Exception):
            return self._options.unavailable(reply)
        return QueueFull(f"the inbox holds its limit of {self._options.max_queued:,} requests")
