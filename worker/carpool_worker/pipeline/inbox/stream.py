"""The worker's end of the inbox: reads entries as a consumer group, in chunks, and acknowledges them."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, cast

import redis
from redis.exceptions import ResponseError

from carpool.contract import (
    CANCEL_FIELD,
    OLD_ENTRY_FIELD,
    Cancel,
    Envelope,
    decode_cancel,
    encode_cancel,
    encode_entry,
)
from carpool.quotas import COUNTED_FIELD, LOADS
from carpool_worker.coordination.keys import GROUP, QUARANTINE
from carpool_worker.pipeline.inbox import packs, quarantine
from carpool_worker.pipeline.inbox.checks import check_cancel
from carpool_worker.pipeline.inbox.chunks import Chunk, ReadEntry
from carpool_worker.pipeline.inbox.shards import FIRST, Shard
from carpool_worker.pipeline.inbox.stream_scripts import ACKNOWLEDGE_SCRIPT, LEAVE_SCRIPT
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import SECOND

log = get_logger(__name__)

READ_ENTRIES = 8
"""Entries in one read. Producers keep entries below 256 kB, but a single large request may take 32 MB."""

Entry = tuple[bytes, dict[bytes, bytes]]

MOST_POISONED = 100
"""Requests that an inbox object quarantines although they can be read. That many in one run of the aggregator are
rather a fault of Carpool: the others wait in the inbox for the next run."""


class KeyConflict(ValueError):
    """Its idempotency key was used before, with other params: that request stands, and this one was not run."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class Inbox:
    """One consumer of the group of one shard of the inbox."""

    def __init__(self, server: redis.Redis, claim_interval: float, shard: Shard = FIRST) -> None:
        self.shard = shard
        self._redis = server
        self._claim_after = int(claim_interval * SECOND)
        # Unique: leaving deletes the consumer's pending entries, and a restarted container keeps its host name and pid.
        self._consumer = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}"
        self._acknowledge = server.register_script(ACKNOWLEDGE_SCRIPT)
        self._leave = server.register_script(LEAVE_SCRIPT)
        self._poisoned = 0

    def chunks(self) -> Iterator[Chunk]:
        """Yield the entries that dead consumers left pending, then new ones, until the inbox is empty."""
        self._create_group()
        yield from self._chunks(self._abandoned())
        yield from self._chunks(self._new())

    def queued(self) -> int:
        """Return how many requests are in the shard, those included that were read and not acknowledged yet."""
        return int(cast("bytes | None", self._redis.get(self.shard.queued)) or 0)

    def acknowledge(self, chunk: Chunk) -> None:
        """Delete the chunk's entries from the inbox; call it once their requests are committed."""
        self._delete(
            *(
                part
                for entry in chunk.entries
                for part in (entry.id, entry.count, entry.size, entry.counted, 1, *entry.owners)
            )
        )

    def quarantine(self, conflicting: Sequence[Envelope]) -> None:
        """Quarantine requests that came with the idempotency key of another one, but other params.

        Called before their entry is acknowledged, so a crash in between quarantines them twice and loses none. Raises
        QuarantineFull; then their entry must stay in the inbox.
        """
        for one in conflicting:
            if not quarantine.add(self._redis, {OLD_ENTRY_FIELD: encode_entry([one])}, KeyConflict()):
                raise quarantine.QuarantineFull
            log.error("idempotency key used with other params: request quarantined", request=one.id)

    @property
    def may_quarantine_more(self) -> bool:
        """Whether another request that can be read, but not stored, may be quarantined."""
        return self._poisoned < MOST_POISONED

    def quarantine_poison(self, poison: Envelope | Cancel, error: Exception) -> bool:
        """Quarantine what can be read but not stored; return False if its entry must stay in the inbox instead."""
        if isinstance(poison, Envelope):
            fields = {OLD_ENTRY_FIELD: encode_entry([poison])}
        else:
            fields = {CANCEL_FIELD: encode_cancel(poison)}
        if not self.may_quarantine_more or not quarantine.add(self._redis, fields, error):
            return False
        self._poisoned += 1
        id_ = poison.id if isinstance(poison, Envelope) else None
        log.error("can't be stored: quarantined", request=id_, error=type(error).__name__)
        return True

    def leave(self) -> None:
        """Forget this consumer, so that dead ones don't pile up, unless it holds entries that others must get."""
        self._leave(keys=[self.shard.inbox], args=[GROUP, self._consumer])

    def _delete(self, *arguments: bytes | int | str) -> None:
        self._acknowledge(keys=[self.shard.inbox, self.shard.queued, LOADS], args=[GROUP, *arguments])

    def _create_group(self) -> None:
        try:
            self._redis.xgroup_create(self.shard.inbox, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def _chunks(self, reads: Iterator[list[Entry]]) -> Iterator[Chunk]:
        chunk = Chunk()
        for entries in reads:
            for entry in entries:
                self._add(chunk, entry)
                if chunk.full:
                    yield chunk
                    chunk = Chunk()
        if chunk.entries:
            yield chunk

    def _abandoned(self) -> Iterator[list[Entry]]:
        cursor: Any = "0-0"
        while True:
            cursor, entries, *_ = self._redis.xautoclaim(
                self.shard.inbox,
                GROUP,
                self._consumer,
                self._claim_after,
                start_id=cursor,
                count=READ_ENTRIES,
            )
            yield entries
            if cursor == b"0-0":
                return

    def _new(self) -> Iterator[list[Entry]]:
        while True:
            answer = self._redis.xreadgroup(
                GROUP, self._consumer, {self.shard.inbox: ">"}, count=READ_ENTRIES
            )
            entries = [entry for part in _streams(answer) for entry in part]
            if not entries:
                return
            yield entries

    def _add(self, chunk: Chunk, entry: Entry) -> None:
        entry_id, fields = entry
        try:
            if packed_cancel := fields.get(CANCEL_FIELD):
                self._add_cancel(chunk, entry_id, packed_cancel)
                return
            read = packs.read(fields)
        except Exception as error:  # reading is pure: whatever is wrong is wrong with the entry
            self._quarantine(entry_id, fields, error)
            return
        found = ReadEntry(entry_id, read, counted=fields.get(COUNTED_FIELD, b""))
        chunk.add(found, found.size)

    def _add_cancel(self, chunk: Chunk, entry_id: bytes, packed: bytes) -> None:
        command = decode_cancel(packed)
        check_cancel(command)
        chunk.add(ReadEntry(entry_id, cancel=command), len(packed))

    def _quarantine(self, entry_id: bytes, fields: dict[bytes, bytes], error: Exception) -> None:
        kept = {name: value for name, value in fields.items() if name != COUNTED_FIELD}
        if not quarantine.add(self._redis, kept, error):
            return  # it stays pending, and is tried again when it is taken over
        self._delete(entry_id, packs.claimed_count(fields), 0, fields.get(COUNTED_FIELD, b""), 0, "", "")
        log.error("inbox entry quarantined", entry=entry_id.decode(), stream=QUARANTINE)


def _streams(answer: Any) -> list[list[Entry]]:
    # RESP3 replies with a mapping, RESP2 with a list of pairs.
    if isinstance(answer, dict):
        return [entry for value in answer.values() for entry in value]
    return [entries for _, entries in answer or []]
