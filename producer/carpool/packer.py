"""Packs checked requests into inbox entries, and keeps track of which of them Redis has accepted.

It does no input or output, so Producer and AsyncProducer share it: they send `commands()` as one pipeline, pass the
replies to `settle`, and repeat while anything is `unsettled`.
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
from carpool.durability import PROBE, SYNC, confirm_probe, confirm_sync
from carpool.envelopes import EnqueueOptions, Params, Request
from carpool.exceptions import (
    CarpoolError,
    InvalidRequest,
    NotDurable,
    QueueFull,
    RedisUnavailable,
    SourceFailed,
)
from carpool.options import Options
from carpool.request_ids import RequestIds

PIPELINE_ENTRIES = 8
PIPELINE_BYTES = 500_000
"""What one round trip carries: enough to hide its latency, and little enough to stay in the processor's cache."""

ENVELOPE_BYTES = 150
"""About what an Envelope adds to its contents."""

SCRIPT_SHA = hashlib.sha1(APPEND_SCRIPT.encode(), usedforsecurity=False).hexdigest()

OUT_OF_MEMORY = -2
"""APPEND_SCRIPT's reply when what is left of Redis' memory is reserved for the worker."""

Command = tuple[str | bytes | int | float, ...]


class _Entry(msgspec.Struct, frozen=True):
    ids: list[str]
    packed: bytes


class Packer:
    """The requests of one call on their way into the inbox; `accepted` has the ids that Redis acknowledged."""

    def __init__(self, settings: Options, options: EnqueueOptions | None = None) -> None:
        self.accepted = RequestIds()
        self._pending: list[_Entry] = []
        self._sent: list[_Entry] = []
        self._checked = settings.check(options or {})
        self._settings = settings
        self._failure: CarpoolError | None = None
        self._added = 0
        self._load_script = False
        self._probing = settings.durable
        self._pending_bytes = 0
        self._open: list[Envelope] = []
        self._open_bytes = 0

    def add(self, item: Params | Request) -> bool:
        """Check and pack one request; return whether enough is pending for a round trip.

        Raises InvalidRequest; the requests added before are kept.
        """
        return self.pack(self._checked.envelope(item))

    def pack(self, envelope: Envelope) -> bool:
        """Pack a request that is checked already; return whether enough is pending for a round trip."""
        carried = len(envelope.metadata or b"") + len(envelope.callback or b"")
        size = ENVELOPE_BYTES + len(envelope.params) + carried
        if self._open_bytes + size > MAX_ENTRY_BYTES or len(self._open) == MAX_ENTRY_REQUESTS:
            self.close_entry()
        self._open.append(envelope)
        self._open_bytes += size
        self._added += 1
        return len(self._pending) >= PIPELINE_ENTRIES or self._pending_bytes >= PIPELINE_BYTES

    def close_entry(self) -> None:
        """Move the requests of the open entry to `pending`."""
        if self._open:
            packed = encode_entry(self._open)
            self._pending.append(_Entry([envelope.id for envelope in self._open], packed))
            self._pending_bytes += len(packed)
            self._open, self._open_bytes = [], 0

    @property
    def unsettled(self) -> bool:
        """Whether there are closed entries that Redis has not acknowledged or refused."""
        return bool(self._pending or self._sent)

    def commands(self) -> list[Command]:
        """Return the Redis commands, one pipeline, that append the unsettled entries."""
        if self._probing and self.unsettled:
            return [PROBE]
        self._sent, self._pending, self._pending_bytes = self._sent + self._pending, [], 0
        load: list[Command] = [("SCRIPT LOAD", APPEND_SCRIPT)] if self._load_script else []
        sync: list[Command] = [SYNC] if self._settings.durable and self._sent else []
        return [*load, *(self._append(entry) for entry in self._sent), *sync]

    def _append(self, entry: _Entry) -> Command:
        limit = self._settings.max_queued
        return "EVALSHA", SCRIPT_SHA, 2, INBOX, QUEUED, len(entry.ids), limit, ENTRY_FIELD, entry.packed

    def settle(self, replies: Sequence[Any]) -> None:
        """Process the replies to `commands()`, with error replies as values.

        Entries for which Redis lacked the script stay unsettled, to be sent again together with it.

        Raises:
            QueueFull: the inbox, or Redis' memory, is full.
            RedisUnavailable: Redis refused for another reason.
            NotDurable: the requests are to be durable, and Redis did not confirm that they are on disk.
        """
        if self._probing and replies:
            self._probing = False
            confirm_probe(replies[-1])
            return
        if self._settings.durable and self._sent:
            *replies, synced = replies
            self._confirm_sync(synced)
        self._settle_entries(replies[-len(self._sent) :])

    def _settle_entries(self, replies: Sequence[Any]) -> None:
        entries, self._sent = self._sent, []
        refusals = []
        for entry, reply in zip(entries, replies, strict=True):
            if isinstance(reply, int) and reply >= 0:
                self.accepted.extend(entry.ids)
            elif isinstance(reply, NoScriptError) and not self._load_script:
                self._sent.append(entry)
            else:
                refusals.append(reply)
        self._load_script = bool(self._sent)
        if refusals:
            refusal = self._refusal(refusals[0])
            refusal.accepted = self.accepted
            raise refusal

    def _confirm_sync(self, reply: object) -> None:
        try:
            confirm_sync(reply)
        except NotDurable as failure:
            failure.accepted, failure.unknown = self.accepted, self._sent_ids()
            raise

    def _sent_ids(self) -> RequestIds:
        return RequestIds(one for entry in self._sent for one in entry.ids)

    def unanswered(self, error: Exception) -> RedisUnavailable:
        """Return the error to raise when no replies to `commands()` came: Redis may or may not have those requests."""
        failure = self._settings.unavailable(error)
        failure.accepted = self.accepted
        failure.unknown = self._sent_ids()
        return failure

    @contextmanager
    def deferring_failure(self) -> Iterator[None]:
        """Defer the error of an invalid request, or of the iterable, until `finish`: what came before is enqueued."""
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
        """Return the accepted ids, or raise the deferred error."""
        if self._failure:
            self._failure.accepted = self.accepted
            raise self._failure
        return self.accepted

    def _refusal(self, reply: object) -> CarpoolError:
        if isinstance(reply, OutOfMemoryError) or reply == OUT_OF_MEMORY:
            return QueueFull("Redis is out of memory, so the inbox takes no more requests for now")
        if isinstance(reply, Exception):
            return self._settings.unavailable(reply)
        return QueueFull(f"the inbox has reached its limit of {self._settings.max_queued:,} requests")
