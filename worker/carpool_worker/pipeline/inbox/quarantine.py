"""The quarantine: inbox entries that could not be read, kept as they came until an operator drops or retries them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis

from carpool.contract import CANCEL_FIELD, INBOX, QUEUED, decode_cancel
from carpool_worker.coordination.keys import QUARANTINE
from carpool_worker.coordination.memory import MEMORY_FUNCTIONS
from carpool_worker.exceptions import WorkerError
from carpool_worker.pipeline.inbox import packs
from carpool_worker.pipeline.inbox.checks import UNREADABLE, check_cancel
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import Milliseconds

log = get_logger(__name__)

PAGE_ENTRIES = 8
"""Entries in one read; one may take 32 MB."""

REASON = b"error"
"""The field that is added to an entry: why it could not be read."""

REASON_LENGTH = 300

MOST_ENTRIES = 100_000
MOST_MEMORY = 0.25
"""Entries, and their share of Redis' memory, beyond which nothing is added: an operator has to look at them. The rest
waits in the inbox, where `max_queued` bounds it."""

ADD_SCRIPT = f"""{MEMORY_FUNCTIONS}
local used, most = memory()
if redis.call('XLEN', KEYS[1]) >= {MOST_ENTRIES} then return 0 end
if most > 0 and (used >= most or size_of(KEYS[1]) > {MOST_MEMORY} * most) then return 0 end
redis.call('XADD', KEYS[1], '*', unpack(ARGV))
return 1
"""
"""KEYS: QUARANTINE. ARGV: the fields and values of an entry. Returns 0 if it is full."""

RETRY_SCRIPT = """
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
if #found == 0 then return 0 end
local fields = {}
for i = 1, #found[1][2], 2 do
  if found[1][2][i] ~= ARGV[3] then
    table.insert(fields, found[1][2][i])
    table.insert(fields, found[1][2][i + 1])
  end
end
if #fields == 0 then return 0 end
redis.call('XADD', KEYS[2], '*', unpack(fields))
redis.call('INCRBY', KEYS[3], ARGV[2])
return redis.call('XDEL', KEYS[1], ARGV[1])
"""
"""KEYS: QUARANTINE, INBOX, QUEUED. ARGV: an entry's id, its number of requests, REASON. It goes to the first shard.
Atomic, so that an entry is never in both streams nor in neither."""

DROP_SCRIPT = """
local unwanted, entries, dropped = {}, redis.call('XRANGE', KEYS[1], '-', '+'), 0
for _, id in ipairs(ARGV) do unwanted[id] = true end
redis.call('DEL', KEYS[1])
for _, entry in ipairs(entries) do
  if unwanted[entry[1]] then
    dropped = dropped + 1
  else
    redis.call('XADD', KEYS[1], entry[1], unpack(entry[2]))
  end
end
return dropped
"""
"""KEYS: QUARANTINE. ARGV: ids of entries. XDEL would only flag them as deleted: their bytes would stay in memory and on
disk for as long as a neighbouring entry does."""


class EntryUnknown(WorkerError):
    """The quarantine has no such entry."""


class QuarantineFull(WorkerError):
    """The quarantine, or Redis, has no room for another entry."""


class EntryUnreadable(WorkerError):
    """The entry still can't be read, and stays in the quarantine."""


@dataclass(frozen=True, slots=True)
class QuarantinedEntry:
    """One entry; `at` is when it was quarantined, in milliseconds since the epoch."""

    id: str
    at: Milliseconds
    reason: str
    fields: dict[bytes, bytes]

    @property
    def size(self) -> int:
        """Bytes of its contents."""
        return sum(map(len, self.fields.values()))

    def ids(self) -> set[str]:
        """Return the ids of its requests; none if it can't be read."""
        try:
            return packs.ids(self.fields)
        except UNREADABLE:
            return set()

    def clients(self) -> set[str]:
        """Return the clients of its requests; none if it can't be read."""
        try:
            return packs.clients(self.fields)
        except UNREADABLE:
            return set()


def add(server: redis.Redis, fields: dict[bytes, bytes], error: Exception) -> bool:
    """Add an entry that could not be read or stored; the caller deletes it from the inbox afterwards.

    Returns False if the quarantine, or Redis, is full; then the entry must stay in the inbox.
    """
    reason = f"{type(error).__name__}: {error}"[:REASON_LENGTH].encode(errors="replace")
    arguments = [part for field in {**fields, REASON: reason}.items() for part in field]
    added = bool(server.register_script(ADD_SCRIPT)(keys=[QUARANTINE], args=arguments))
    if not added:
        log.error("the quarantine is full: an entry stays in the inbox", stream=QUARANTINE)
    return added


def entries(server: redis.Redis, first: str = "-", last: str = "+") -> Iterator[QuarantinedEntry]:
    """Yield the entries, oldest first."""
    while page := cast("list[Any]", server.xrange(QUARANTINE, first, last, count=PAGE_ENTRIES)):
        yield from (_entry(entry_id.decode(), fields) for entry_id, fields in page)
        first = f"({page[-1][0].decode()}"


def find(server: redis.Redis, entry_id: str) -> QuarantinedEntry:
    """Return one entry; raises EntryUnknown."""
    try:
        [entry] = entries(server, entry_id, entry_id)
    except (ValueError, redis.ResponseError):  # no entry, or a malformed id
        raise EntryUnknown(f"The quarantine has no entry {entry_id}.") from None
    return entry


def drop(server: redis.Redis, entry_ids: Sequence[str]) -> int:
    """Delete entries for good; return how many there were."""
    if not entry_ids:
        return 0
    return int(server.register_script(DROP_SCRIPT)(keys=[QUARANTINE], args=entry_ids))


def retry(server: redis.Redis, entry: QuarantinedEntry) -> bool:
    """Move an entry back to the end of the inbox; return False if it is no longer in the quarantine.

    Raises:
        EntryUnreadable: the aggregator would only quarantine it again.
    """
    try:
        requests = _requests(entry)
    except UNREADABLE as error:
        raise EntryUnreadable(
            f"Entry {entry.id} still can't be read and stays in the quarantine: {error}"
        ) from None
    script = server.register_script(RETRY_SCRIPT)
    return bool(script(keys=[QUARANTINE, INBOX, QUEUED], args=[entry.id, requests, REASON]))


def _requests(entry: QuarantinedEntry) -> int:
    if command := entry.fields.get(CANCEL_FIELD):
        check_cancel(decode_cancel(command))
        return 0
    return sum(len(pack.envelopes) for pack in packs.read(entry.fields))


def _entry(entry_id: str, fields: dict[bytes, bytes]) -> QuarantinedEntry:
    contents = {name: value for name, value in fields.items() if name != REASON}
    reason = fields.get(REASON, b"").decode(errors="replace")
    printable = "".join(letter if letter.isprintable() else "\ufffd" for letter in reason)
    at = Milliseconds(int(entry_id.partition("-")[0]))
    return QuarantinedEntry(entry_id, at, printable, contents)
