"""Erases the content of a client, or of one request, wherever Carpool keeps it: the tables, the inbox, the quarantine,
unread replies.

First the requests are canceled, so that nothing needs their content any longer; the answers of those at Anthropic are
dropped when they come. Idempotent and crash-safe: to finish a purge that died, run it again.
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

from carpool.contract import REPLIES, decode_answers
from carpool_worker.database import now, read, write
from carpool_worker.pipeline.batching import aggregator, canceler
from carpool_worker.pipeline.inbox import quarantine, shards
from carpool_worker.pipeline.inbox.shards import Shard
from carpool_worker.pipeline.inbox.stream import Inbox
from carpool_worker.settings import Settings
from carpool_worker.store import erasure
from carpool_worker.store.client_batches import rows as client_batches
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)

PAGE_SEGMENTS = 20
"""Segments erased in one transaction, each with up to 200 requests."""

INBOX_MARGIN = 10.0
INBOX_PAUSE = 0.5
"""Seconds: how long beyond claim_interval an entry that a worker has read may take to be stored, by it or here; and the
time between two checks."""

Progress = Callable[[int], None]
"""Called with the number of requests just erased."""


class _Whose(msgspec.Struct):
    client: str


_decode_answer = msgspec.json.Decoder(_Whose).decode


@dataclass
class Purged:
    """What was erased, in rows or entries, and whether anything is left."""

    canceled: int = 0
    requests: int = 0
    gone: Counter[str] = field(default_factory=Counter)  # params, answers, deliveries, replies, quarantined
    inbox_taken: bool = True  # False: a worker is still reading entries of the inbox
    quarantined_with_others: int = 0  # entries of the quarantine that have other requests, too, and stay
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
    theirs = [entry.id for entry in quarantine.entries(server) if client in entry.clients()]
    purged.gone["quarantined"] = quarantine.drop(server, theirs)
    _erase_copies(engine, server, client, purged)
    log.info("client purged by operator", actor=actor, client=client, requests=purged.requests)
    return purged


def purge_request(
    engine: sa.Engine, server: redis.Redis, request_id: str, settings: Settings, *, actor: str
) -> Purged:
    """Erase all content of one request, which is in the tables; usage and cost stay.

    Replies to all that its client waits for are dropped, too: the producer asks for them again.
    """
    purged = Purged(requests=1)
    before = _newest(server)
    purged.canceled = canceler.request_cancellation(engine, [request_id])
    purged.inbox_taken = _take_inbox(engine, server, settings, before)
    canceler.sweep(engine)
    with write(engine) as connection:
        client = erasure.client_of(connection, request_id)
        purged.gone.update(erasure.erase_request(connection, request_id))
    named = [entry for entry in quarantine.entries(server) if request_id in entry.ids()]
    alone = [entry.id for entry in named if entry.ids() == {request_id}]
    purged.gone["quarantined"] = quarantine.drop(server, alone)
    purged.quarantined_with_others = len(named) - len(alone)
    _erase_copies(engine, server, client, purged)
    log.info("request purged by operator", actor=actor, request=request_id)
    return purged


def _newest(server: redis.Redis) -> dict[Shard, Any]:
    """Return the id of the newest entry of each shard of the inbox that has any."""
    pages = ((shard, server.xrevrange(shard.inbox, count=1)) for shard in shards.filled(server))
    return {shard: page[0][0] for shard, page in cast("Iterator[tuple[Shard, list[Any]]]", pages) if page}


def _take_inbox(engine: sa.Engine, server: redis.Redis, settings: Settings, newest: dict[Shard, Any]) -> bool:
    """Store all that is in the inbox up to `newest`; return False if a worker takes too long over some of it."""
    limits, budgets = settings.limits, settings.budgets
    deadline = time.monotonic() + settings.claim_interval + INBOX_MARGIN
    for shard, last in newest.items():
        while server.xrange(shard.inbox, "-", last, count=1):
            if time.monotonic() > deadline:
                return False
            inbox = Inbox(server, settings.claim_interval, shard)
            if aggregator.aggregate(engine, inbox, limits, lambda _: None, budgets) == 0:
                time.sleep(INBOX_PAUSE)
    return True


def _erase(engine: sa.Engine, client: str, purged: Purged, progress: Progress) -> None:
    with write(engine) as connection:
        client_batches.purge(connection, client, now())
    for erase in (erasure.erase_requests, erasure.erase_answers):
        last: int | None = 0
        while last is not None:
            with write(engine) as connection:
                last, count, gone = erase(connection, client, last, PAGE_SEGMENTS)
            purged.gone.update(gone)
            purged.requests += count
            if count:
                progress(count)


def _erase_copies(engine: sa.Engine, server: redis.Redis, client: str, purged: Purged) -> None:
    """Drop what is left in Redis, and what both servers' files still have of what was deleted."""
    purged.gone["replies"] = _drop_replies(server, client)
    purged.scrubbed = engine.dialect.name == "sqlite" and erasure.scrub(engine)
    purged.rewritten = _rewrite(server)


def _drop_replies(server: redis.Redis, client: str) -> int:
    theirs = [name for name, owner in _replies(server) if owner == client]
    return server.delete(*theirs) if theirs else 0


def _replies(server: redis.Redis) -> Iterator[tuple[bytes, str]]:
    # All answers in one list are of one client: that of the producer which waits.
    for name in server.scan_iter(f"{REPLIES}*", count=1_000):
        if answer := cast("bytes | None", server.lindex(name, 0)):
            is_packed = not answer.startswith(b"{")
            yield name, decode_answers(answer).client if is_packed else _decode_answer(answer).client


def _rewrite(server: redis.Redis) -> bool:
    try:
        server.bgrewriteaof()
    except RedisError:  # hosted servers don't allow it; a server that is already rewriting refuses too
        return False
    return True
