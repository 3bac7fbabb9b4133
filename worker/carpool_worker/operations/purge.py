"""Erases a client's content, wherever Carpool keeps it: the tables, the inbox, the quarantine, unread replies.

First the client's requests are canceled, so that nothing needs their content any longer; the answers of those at
Anthropic are dropped when they come. Idempotent and crash-safe: to finish a purge that died, run it again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
import redis
import sqlalchemy as sa
from redis.exceptions import RedisError

from carpool.contract import INBOX, REPLIES
from carpool_worker.database import now, read, write
from carpool_worker.pipeline.batching import aggregator, canceler
from carpool_worker.pipeline.inbox import quarantine
from carpool_worker.pipeline.inbox.stream import Inbox
from carpool_worker.settings import Settings
from carpool_worker.store import erasure
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)

PAGE_REQUESTS = 1_000
"""Requests erased in one transaction."""

INBOX_MARGIN = 10.0
INBOX_PAUSE = 0.5
"""Seconds: how long beyond claim_interval an entry that a worker has read may take to be stored, by it or here; and the
time between two checks."""

Progress = Callable[[int], None]
"""Called with the number of requests just erased."""


class _Whose(msgspec.Struct):
    client: str


@dataclass
class Purged:
    """What was erased, in rows or entries, and whether anything is left."""

    canceled: int = 0
    requests: int = 0
    gone: Counter[str] = field(default_factory=Counter)  # params, answers, deliveries, replies, quarantined
    inbox_taken: bool = True  # False: a worker is still reading entries of the inbox
    scrubbed: bool = True  # False: deleted bytes are still in the database's files
    rewritten: bool = True  # False: they may still be in Redis' append-only file


def count(engine: sa.Engine, client: str) -> int:
    """Return how many requests a client has in the ledger."""
    with read(engine) as connection:
        return erasure.count(connection, client)


def purge(
    engine: sa.Engine,
    server: redis.Redis,
    client: str,
    settings: Settings,
    progress: Progress = lambda _: None,
    *,
    actor: str,
) -> Purged:
    """Erase all content of a client's requests; usage and cost stay."""
    purged = Purged()
    before = _newest(server)
    purged.canceled = canceler.request_all(engine, client, now())
    purged.inbox_taken = _take_inbox(engine, server, settings, before)
    canceler.sweep(engine)
    _erase(engine, client, purged, progress)
    purged.gone["quarantined"] = quarantine.drop(server, _quarantined(server, client))
    purged.gone["replies"] = _drop_replies(server, client)
    purged.scrubbed = engine.dialect.name == "sqlite" and erasure.scrub(engine)
    purged.rewritten = _rewrite(server)
    log.info("client purged by operator", actor=actor, client=client, requests=purged.requests)
    return purged


def _newest(server: redis.Redis) -> Any:
    newest = cast("list[Any]", server.xrevrange(INBOX, count=1))
    return newest[0][0] if newest else None


def _take_inbox(engine: sa.Engine, server: redis.Redis, settings: Settings, newest: Any) -> bool:
    """Store all that is in the inbox up to `newest`; return False if a worker takes too long over some of it."""
    limits, budgets = settings.limits, settings.budgets
    deadline = time.monotonic() + settings.claim_interval + INBOX_MARGIN
    while newest and server.xrange(INBOX, "-", newest, count=1):
        if time.monotonic() > deadline:
            return False
        inbox = Inbox(server, settings.claim_interval)
        if aggregator.aggregate(engine, inbox, limits, lambda _: None, budgets) == 0:
            time.sleep(INBOX_PAUSE)
    return True


def _erase(engine: sa.Engine, client: str, purged: Purged, progress: Progress) -> None:
    after = ""
    while True:
        with read(engine) as connection:
            ids = erasure.page(connection, client, after, PAGE_REQUESTS)
        if not ids:
            return
        with write(engine) as connection:
            purged.gone.update(erasure.erase(connection, ids))
        purged.requests += len(ids)
        progress(len(ids))
        after = ids[-1]


def _quarantined(server: redis.Redis, client: str) -> list[str]:
    return [entry.id for entry in quarantine.entries(server) if client in entry.clients()]


def _drop_replies(server: redis.Redis, client: str) -> int:
    theirs = [name for name, owner in _replies(server) if owner == client]
    return server.delete(*theirs) if theirs else 0


def _replies(server: redis.Redis) -> Iterator[tuple[bytes, str]]:
    # All answers in one list are of one client: that of the producer which waits.
    for name in server.scan_iter(f"{REPLIES}*", count=1_000):
        if answer := cast("bytes | None", server.lindex(name, 0)):
            yield name, msgspec.json.decode(answer, type=_Whose).client


def _rewrite(server: redis.Redis) -> bool:
    try:
        server.bgrewriteaof()
    except RedisError:  # hosted servers don't allow it; a server that is already rewriting refuses too
        return False
    return True
