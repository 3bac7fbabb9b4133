"""Poison: what can be read from the inbox, but not stored. It must not stop the inbox for everybody behind it.

A chunk that can't be stored for what it contains is stored by entries, and such an entry by halves, until what is wrong
stands alone. That goes to the quarantine, and all else into the tables. An outage is no poison: then everything waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from carpool.contract import Cancel
from carpool_worker.database import blames_contents
from carpool_worker.pipeline.inbox.chunks import Chunk, ReadEntry
from carpool_worker.pipeline.inbox.packs import Pack
from carpool_worker.pipeline.inbox.stream import Inbox
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)

Store = Callable[[Sequence[Pack], Sequence[Cancel]], None]
"""Stores requests and applies cancel commands. It may be repeated with what it has stored before."""


def store(inbox: Inbox, chunk: Chunk, act: Store) -> None:
    """Store a chunk, and acknowledge what of it is stored or quarantined; the rest stays in the inbox.

    Raises:
        redis.RedisError, sqlalchemy.exc.OperationalError: Redis or the database is away.
    """
    if error := _failure(act, chunk.packs, chunk.cancels):
        log.error("can't be stored together", requests=chunk.count, error=type(error).__name__)
        for entry in chunk.entries:
            if _store_entry(inbox, entry, act):
                inbox.acknowledge(Chunk([entry]))
    else:
        inbox.acknowledge(chunk)


def _store_entry(inbox: Inbox, entry: ReadEntry, act: Store) -> bool:
    error = _failure(act, entry.packs, [entry.cancel] if entry.cancel else [])
    if error and entry.cancel:
        return inbox.quarantine_poison(entry.cancel, error)
    return not error or _store_parts(inbox, entry.packs, act)


def _store_parts(inbox: Inbox, packs: Sequence[Pack], act: Store) -> bool:
    is_done = [_store_part(inbox, pack, act) for pack in packs]
    return all(is_done)


def _store_part(inbox: Inbox, pack: Pack, act: Store) -> bool:
    if not inbox.may_quarantine_more:
        return False
    if not (error := _failure(act, [pack], [])):
        return True
    envelopes, middle = pack.envelopes, len(pack.envelopes) // 2
    if not middle:
        return inbox.quarantine_poison(envelopes[0], error)
    return _store_parts(inbox, [Pack(envelopes[:middle]), Pack(envelopes[middle:])], act)


def _failure(act: Store, packs: Sequence[Pack], cancels: Sequence[Cancel]) -> Exception | None:
    """Return why this can't be stored, for what it contains; None if it was."""
    try:
        act(packs, cancels)
    except Exception as error:
        if not blames_contents(error):
            raise
        return error
    return None
