"""The worker's end of the inbox: reads entries as a consumer group, in chunks, and acknowledges them."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import redis
from redis.exceptions import ResponseError

from carpool.contract import (
    CANCEL_FIELD,
    INBOX,
    QUEUED,
    Cancel,
    Envelope,
    decode_cancel,
    decode_entry,
)
from carpool_worker.coordination.keys import GROUP, QUARANTINE
from carpool_worker.pipeline.inbox import quarantine
from carpool_worker.pipeline.inbox.checks import UNREADABLE, check, check_cancel, packed_envelopes
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
"""KEYS: INBOX, QUEUED. ARGV: GROUP, then an entry's id and its number of requests, for each entry.
The counter goes down only for entries that this call deleted, so it stays exact even if two workers acknowledge the
same ones. What an unreadable entry had added is unknown, so an empty inbox resets the counter."""

Entry = tuple[bytes, dict[bytes, bytes]]


@dataclass(slots=True)
class Chunk:
    """The requests of some entries, to be stored in one transaction, and the cancel commands among them."""

    entries: list[tuple[bytes, int]] = field(default_factory=list)  # id, number of requests
    envelopes: list[Envelope] = field(default_factory=list)
    cancels: list[Cancel] = field(default_factory=list)
    size: int = 0

    @property
    def full(self) -> bool:
        """Whether it is large enough to be stored."""
        return len(self.envelopes) >= CHUNK_REQUESTS or self.size >= CHUNK_BYTES


class Inbox:
    """One consumer of the inbox's group."""

    def __init__(self, server: redis.Redis, claim_interval: float) -> None:
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
        """Return how many requests are in the inbox, those included that were read and not acknowledged yet."""
        return int(cast("bytes | None", self._redis.get(QUEUED)) or 0)

    def acknowledge(self, chunk: Chunk) -> None:
        """Delete the chunk's entries from the inbox; call it once their requests are committed."""
        arguments = [part for entry in chunk.entries for part in entry]
        self._acknowledge(keys=[INBOX, QUEUED], args=[GROUP, *arguments])

    def leave(self) -> None:
        """Delete this consumer, so that dead ones don't pile up; call it once all that it read is acknowledged."""
        self._redis.xgroup_delconsumer(INBOX, GROUP, self._consumer)

    def _create_group(self) -> None:
        try:
            self._redis.xgroup_create(INBOX, GROUP, id="0", mkstream=True)
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
                INBOX, GROUP, self._consumer, self._claim_after, start_id=cursor, count=READ_ENTRIES
            )
            yield entries
            if cursor == b"0-0":
                return

    def _new(self) -> Iterator[list[Entry]]:
        while True:
            answer = self._redis.xreadgroup(GROUP, self._consumer, {INBOX: ">"}, count=READ_ENTRIES)
            entries = [entry for part in _streams(answer) for entry in part]
            if not entries:
                return
            yield entries

    def _add(self, chunk: Chunk, entry: Entry) -> None:
        entry_id, fields = entry
        envelopes: list[Envelope] = []
        try:
            if packed_cancel := fields.get(CANCEL_FIELD):
                self._add_cancel(chunk, entry_id, packed_cancel)
                return
            packed = packed_envelopes(fields)
            envelopes = decode_entry(packed)
            check(envelopes)
        except UNREADABLE as error:
            self._quarantine(entry_id, fields, len(envelopes), error)
            return
        chunk.entries.append((entry_id, len(envelopes)))
        chunk.envelopes += envelopes
        chunk.size += len(packed)

    def _add_cancel(self, chunk: Chunk, entry_id: bytes, packed: bytes) -> None:
        command = decode_cancel(packed)
        check_cancel(command)
        chunk.entries.append((entry_id, 0))
        chunk.cancels.append(command)
        chunk.size += len(packed)

    def _quarantine(
        self, entry_id: bytes, fields: dict[bytes, bytes], requests: int, error: Exception
    ) -> None:
        quarantine.add(self._redis, fields, error)
        self._acknowledge(keys=[INBOX, QUEUED], args=[GROUP, entry_id, requests])
        log.error("inbox entry quarantined", entry=entry_id.decode(), stream=QUARANTINE)


def _streams(answer: Any) -> list[list[Entry]]:
    # RESP3 replies with a mapping, RESP2 with a list of pairs.
    if isinstance(answer, dict):
        return [entry for value in answer.values() for entry in value]
    return [entries for _, entries in answer or []]
