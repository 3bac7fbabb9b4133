"""Packs checked requests into inbox entries, and keeps track of which of them Redis has accepted.

It does no input or output, so Producer and AsyncProducer share it: they send `commands()` as one pipeline, pass the
replies to `settle`, and repeat while anything is `unsettled`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis.exceptions import NoScriptError

from carpool.append_script import APPEND_SCRIPT, append_command
from carpool.append_script import Command as Command
from carpool.durability import Durability
from carpool.enqueue_options import Params, Request
from carpool.entries import CheckedRequest, ClosedEntry, EntryTerms, OpenEntry
from carpool.envelopes import CheckedOptions
from carpool.exceptions import (
    CarpoolError,
    IdempotencyConflict,
    InvalidRequest,
    NotDurable,
    RedisUnavailable,
    SourceFailed,
)
from carpool.idempotency import conflicts
from carpool.options import Options
from carpool.quotas import reached
from carpool.refusals import is_accepted, refusal
from carpool.request_ids import ID_BYTES, RequestIds
from carpool.shards import shard_of

PIPELINE_ENTRIES = 8
PIPELINE_BYTES = 500_000
"""What one round trip carries: enough to hide its latency, and little enough to stay in the processor's cache."""

OPEN_ENTRIES = 16
"""Requests with different terms may alternate, so an entry stays open for each of them: so many at most, which bounds
memory (4 MB of params). The oldest is closed first."""

OPEN_REQUESTS = 5_000
"""An entry is closed at the latest when so many requests have come since its first: a rare one shan't wait for all."""


_Kind = tuple[EntryTerms, str, int | None]
"""What requests of one entry have in common: terms, model and, where it matters, the shard."""


class Packer:
    """The requests of one call on their way into the inbox."""

    def __init__(self, settings: Options, options: CheckedOptions | None = None) -> None:
        self._ids = bytearray()
        self._is_accepted = bytearray()
        """A byte for each request: whether Redis has acknowledged it."""
        self._open: dict[_Kind, OpenEntry] = {}
        self._pending: list[ClosedEntry] = []
        self._pending_bytes = 0
        self._sent: list[ClosedEntry] = []
        self._of_many = (
            options is not None
        )  # whether its requests are those of an enqueue_many, counted from 0
        self._options = options or settings.check({})
        self._settings = settings
        self._shards = settings.inbox_shards
        self._failure: CarpoolError | None = None
        self.refused: dict[int, CarpoolError] = {}
        """Why Redis has refused requests, by their places among those that were added."""
        self._load_script = False
        self._probing = settings.durable is not None

    def add(self, item: Params | Request) -> bool:
        """Check and pack one request; return whether enough is pending for a round trip.

        Raises InvalidRequest; the requests added before are kept.
        """
        options = self._options
        return self.pack(options.overridden(item) if isinstance(item, Request) else options.request(item))

    def pack(self, request: CheckedRequest) -> bool:
        """Pack a request that is checked already; return whether enough is pending for a round trip."""
        kind, place = (request.terms, request.model, self._own_shard(request)), len(self._is_accepted)
        entry = self._open.get(kind)
        if entry is None or not entry.add(request, place):
            entry = self._opened(kind)
            entry.add(request, place)
        self._ids += request.id
        self._is_accepted.append(False)
        if entry.full:
            self._close(kind)
            self._close_old()
        return len(self._pending) >= PIPELINE_ENTRIES or self._pending_bytes >= PIPELINE_BYTES

    def close(self) -> None:
        """Close all open entries; then nothing but `unsettled` ones are left."""
        while self._open:
            self._close(next(iter(self._open)))

    @property
    def accepted(self) -> RequestIds:
        """The ids of the requests that Redis has acknowledged, in the order in which they were added."""
        if False not in self._is_accepted:
            return RequestIds.packed(self._ids)
        return self._ids_at(place for place, is_accepted in enumerate(self._is_accepted) if is_accepted)

    @property
    def unsettled(self) -> bool:
        """Whether there are closed entries that Redis has not acknowledged or refused."""
        return bool(self._pending or self._sent)

    def commands(self) -> list[Command]:
        """Return the Redis commands, one pipeline, that append the unsettled entries."""
        durable = self._settings.durable
        if durable and self._probing and self.unsettled:
            return [durable.probe]
        self._sent, self._pending, self._pending_bytes = self._sent + self._pending, [], 0
        load: list[Command] = [("SCRIPT LOAD", APPEND_SCRIPT)] if self._load_script else []
        sync: list[Command] = [durable.sync] if durable and self._sent else []
        return [*load, *map(self._append_command, self._sent), *sync]

    def settle(self, replies: Sequence[Any]) -> None:
        """Process the replies to `commands()`, with error replies as values.

        Entries for which Redis lacked the script stay unsettled, to be sent again together with it; so do the halves of
        those of which a quota has room for a part, and what is left of those with an IdempotencyConflict. An error is
        raised when nothing is unsettled.

        Raises:
            IdempotencyConflict: a key was used with other params.
            QueueFull: the inbox, or Redis' memory, is full.
            RedisUnavailable: Redis refused for another reason.
            NotDurable: the requests are to be durable, and Redis did not confirm that they are on disk.
        """
        durable = self._settings.durable
        if durable and self._probing and replies:
            self._probing = False
            durable.confirm_probe(replies[-1])
            return
        if durable and self._sent:
            *replies, synced = replies
            self._confirm_sync(durable, synced)
        self._settle_entries(replies[-len(self._sent) :])

    def _settle_entries(self, replies: Sequence[Any]) -> None:
        entries, self._sent = self._sent, []
        lacked_script, self._load_script = self._load_script, False
        for entry, reply in zip(entries, replies, strict=True):
            if is_accepted(reply):
                for place in entry.places:
                    self._is_accepted[place] = True
            elif isinstance(reply, NoScriptError) and not lacked_script:
                self._load_script = True
                self._sent.append(entry)
            elif len(entry.places) > 1 and (quota := reached(reply)) and quota.room:
                self._sent += entry.halves()  # some of them have room
            elif used := conflicts(reply):
                left, refused = entry.without_conflicts(used)
                self._sent += left
                for place, (key, request_id) in refused.items():
                    index = place if self._of_many else None
                    self.refused[place] = IdempotencyConflict(key, request_id, index)
            else:
                self.refused |= dict.fromkeys(entry.places, refusal(self._settings, reply))
        if self.refused and not self._sent:
            error = self.refused[min(self.refused)]
            error.accepted = self.accepted
            raise error

    def _confirm_sync(self, durable: Durability, reply: object) -> None:
        try:
            durable.confirm_sync(reply)
        except NotDurable as failure:
            failure.accepted, failure.unknown = self.accepted, self._sent_ids()
            raise

    def _sent_ids(self) -> RequestIds:
        return self._ids_at(place for entry in self._sent for place in entry.places)

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
            error.index = len(self._is_accepted)
            self._failure = error
        except CarpoolError:
            raise
        except Exception as error:
            self._failure = SourceFailed(f"the iterable of requests raised {type(error).__name__}: {error}")
            self._failure.__cause__ = error

    def finish(self) -> RequestIds:
        """Return the accepted ids, or raise the deferred error."""
        if self._failure:
            self._failure.accepted = self.accepted
            raise self._failure
        return self.accepted

    def _append_command(self, entry: ClosedEntry) -> Command:
        return append_command(
            self._settings,
            entry.terms,
            entry.packed,
            requests=len(entry.places),
            size=entry.size,
            shard=entry.shard,
            most_queued=entry.most_queued,
            claims=entry.claims,
        )

    def _own_shard(self, request: CheckedRequest) -> int | None:
        """Return the shard of a request with a key, which is always the same; of others, None: any will do."""
        matters = self._shards > 1 and request.idempotency_key is not None
        return shard_of(request.id, self._shards) if matters else None

    def _opened(self, kind: _Kind) -> OpenEntry:
        self._close(kind)
        if len(self._open) >= OPEN_ENTRIES + self._shards:
            self._close(next(iter(self._open)))
        entry = self._open[kind] = OpenEntry()
        return entry

    def _close(self, kind: _Kind) -> None:
        entry = self._open.pop(kind, None)
        if entry:
            # The first id of an entry decides its shard: of keyed requests, all of them say the same.
            shard = shard_of(entry.requests[0].id, self._shards)
            closed = ClosedEntry.of(entry, shard)
            self._pending.append(closed)
            self._pending_bytes += len(closed.packed)

    def _close_old(self) -> None:
        old = len(self._is_accepted) - OPEN_REQUESTS
        for kind in [kind for kind, entry in self._open.items() if entry.places[0] < old]:
            self._close(kind)

    def _ids_at(self, places: Iterable[int]) -> RequestIds:
        starts = (place * ID_BYTES for place in places)
        return RequestIds.packed(b"".join(self._ids[start : start + ID_BYTES] for start in starts))
