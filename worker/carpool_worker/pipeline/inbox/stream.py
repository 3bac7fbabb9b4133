"""The worker's end of the inbox: reads entries as a consumer group, in chunks, and acknowledges them."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import redis
from redis.exceptions import ResponseError

from carpool.contract import (
    CANCEL_FIELD,
    OLD_ENTRY_FIELD,
    Cancel,
    Envelope,
    decode_cancel,
    encode_entry,
)
from carpool_worker.coordination.keys import GROUP, QUARANTINE
from carpool_worker.pipeline.inbox import packs, quarantine
from carpool_worker.pipeline.inbox.checks import UNREADABLE, check_cancel
from carpool_worker.pipeline.inbox.packs import Pack
from carpool_worker.pipeline.inbox.shards import FIRST, Shard
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import SECOND

log = get_logger(__name__)

READ_ENTRIES = 8
"""Entries in one read. Producers keep entries below 256 kB, but a single large request may take 32 MB."""

CHUNK_REQUESTS = 4_000
CHUNK_BYTES = 8_000_000
"""In one transaction: few enough to bound memory, and enough to make its commit cheap."""

ACKNOWLEDGE_SCRIPT = """
local gone = 0
for i = 2, #ARGV, 2 do
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
  if redis.call('XDEL', KEYS[1], ARGV[i]) == 1 then gone = gone + tonumber(ARGV[i + 1]) end
end
if redis.call('XLEN', KEYS[1]) == 0 then redis.call('SET', KEYS[2], 0)
elseif gone > 0 then redis.call('DECRBY', KEYS[2], gone) end
return gone
"""
"""KEYS: a shard's stream and counter. ARGV: GROUP, then an entry's id and its number of requests, for each entry.
The counter goes down only for entries that this call deleted, so it stays exact even if two workers acknowledge the
same ones. What an unreadable entry had added is unknown, so an empty inbox resets the counter."""

Entry = tuple[bytes, dict[bytes, bytes]]


@dataclass(slots=True)
class Chunk:
    """The requests of some entries, to be stored in one transaction, and the cancel commands among them."""

    entries: list[tuple[bytes, int]] = field(default_factory=list)  # id, number of requests
    packs: list[Pack] = field(default_factory=list)
    count: int = 0  # requests
    cancels: list[Cancel] = field(default_factory=list)
    size: int = 0  # bytes, unpacked

    @property
    def envelopes(self) -> list[Envelope]:
        """All requests."""
        return [envelope for pack in self.packs for envelope in pack.envelopes]

    @property
    def full(self) -> bool:
        """Whether it is large enough to be stored."""
        return self.count >= CHUNK_REQUESTS or self.size >= CHUNK_BYTES


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
        arguments = [part for entry in chunk.entries for part in entry]
        self._delete(*arguments)

    def quarantine(self, conflicting: Sequence[Envelope]) -> None:
        """Quarantine requests that came with the idempotency key of another one, but other params.

        Called before their entry is acknowledged, so a crash in between quarantines them twice and loses none.
        """
        for one in conflicting:
            quarantine.add(self._redis, {OLD_ENTRY_FIELD: encode_entry([one])}, KeyConflict())
            log.error("idempotency key used with other params: request quarantined", request=one.id)

    def leave(self) -> None:
        """Delete this consumer, so that dead ones don't pile up; call it once all that it read is acknowledged."""
        self._redis.xgroup_delconsumer(self.shard.inbox, GROUP, self._consumer)

    def _delete(self, *arguments: bytes | int) -> None:
        self._acknowledge(keys=[self.shard.inbox, self.shard.queued], args=[GROUP, *arguments])

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
        except UNREADABLE as error:
            self._quarantine(entry_id, fields, error)
            return
        count = sum(len(pack.envelopes) for pack in read)
        chunk.entries.append((entry_id, count))
        chunk.packs += read
        chunk.count += count
        chunk.size += sum(pack.params_bytes for pack in read)

    def _add_cancel(self, chunk: Chunk, entry_id: bytes, packed: bytes) -> None:
        command = decode_cancel(packed)
        check_cancel(command)
        chunk.entries.append((entry_id, 0))
        chunk.cancels.append(command)
        chunk.size += len(packed)

    def _quarantine(self, entry_id: bytes, fields: dict[bytes, bytes], error: Exception) -> None:
        quarantine.add(self._redis, fields, error)
        self._delete(entry_id, packs.claimed_count(fields))
        log.error("inbox entry quarantined", entry=entry_id.decode(), stream=QUARANTINE)


def _streams(answer: Any) -> list[list[Entry]]:
    # RESP3 replies with a mapping, RESP2 with a list of pairs.
    if isinstance(answer, dict):
        return [entry for value in answer.values() for entry in value]
    return [entries for _, entries in answer or []]
