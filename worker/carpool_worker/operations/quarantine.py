"""Retries and drops quarantined inbox entries."""

from __future__ import annotations

from collections.abc import Sequence

import redis

from carpool_worker.pipeline.inbox import quarantine
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)


def retry(server: redis.Redis, entry_ids: Sequence[str], *, actor: str) -> int:
    """Put entries back into the inbox; return how many. A request that was stored before is not stored twice.

    Raises:
        EntryUnknown: the quarantine has no such entry; nothing is put back then.
        EntryUnreadable: this version can't read an entry either: it stays, and so do those after it.
    """
    entries = [quarantine.find(server, entry_id) for entry_id in entry_ids]
    count = sum(quarantine.retry(server, entry) for entry in entries)
    log.info("quarantined entries retried by operator", actor=actor, count=count)
    return count


def drop(server: redis.Redis, entry_ids: Sequence[str], *, actor: str) -> int:
    """Delete entries for good, with the requests in them; return how many there were.

    Raises:
        EntryUnknown: the quarantine has no such entry; nothing is deleted then.
    """
    found = [quarantine.find(server, entry_id) for entry_id in entry_ids]
    count = quarantine.drop(server, [entry.id for entry in found])
    log.info("quarantined entries dropped by operator", actor=actor, count=count)
    return count
