"""SQL about the rows of clients' batches: made, found, listed, canceled, archived and deleted.

Each function that is about one batch takes its client too: another client's batch is none.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool_worker.database import lock, now
from carpool_worker.models import ClientBatch
from carpool_worker.models.indexes import ASIDE, AVAILABLE, UNARCHIVED, UNENDED
from carpool_worker.models.tables import client_batches, deliveries
from carpool_worker.units import HOUR, Milliseconds

ROW = client_batches.c

RETRY_WINDOW = HOUR
"""A marked retry of a create that came no longer ago is the same create."""

_SHOWN = [column for column in ROW if column.name != "segments"]


class Page(NamedTuple):
    """Some batches of a client, newest first, and whether there are more in that direction."""

    batches: list[ClientBatch]
    has_more: bool


def insert(connection: sa.Connection, made: ClientBatch) -> None:
    """Insert a new batch, none of whose requests has ended."""
    connection.execute(sa.insert(client_batches), made.model_dump())


def set_segments(connection: sa.Connection, batch_id: str, ids: Iterable[int]) -> None:
    """Keep which segments have a batch's requests."""
    found = sa.update(client_batches).where(ROW.id == batch_id)
    connection.execute(found.values(segments=array("q", ids).tobytes()))


def segments_of(connection: sa.Connection, batch_id: str) -> Sequence[int]:
    """Return the ids of the segments with a batch's requests, in the requests' order."""
    packed: bytes | None = connection.scalar(sa.select(ROW.segments).where(ROW.id == batch_id))
    return array("q", packed or b"")


def lock_creates(connection: sa.Connection, digests: Iterable[bytes]) -> None:
    """Let nobody else make a batch of these creates, or with these keys, until the transaction ends."""
    for key in sorted({int.from_bytes(digest[:8], "big", signed=True) for digest in digests}):
        lock(connection, key)


def with_key(connection: sa.Connection, client: str, key: str) -> ClientBatch | None:
    """Return the batch that a client made with this idempotency key."""
    return _one(connection, ROW.client == client, ROW.idempotency_key == key)


def made_before(
    connection: sa.Connection, client: str, digest: bytes, received_at: int, *, is_retry: bool
) -> ClientBatch | None:
    """Return the batch that the same create has made, if this one repeats it, or was overtaken by its repetition.

    A marked retry repeats what came within the last hour. One that is not marked, and was received before such a retry
    made the batch, is what that retry repeats.
    """
    since = received_at - RETRY_WINDOW if is_retry else received_at
    same = [ROW.client == client, ROW.id >= _first_id(since), ROW.created_at >= since, ROW.digest == digest]
    if not is_retry:
        same.append(ROW.is_retry)
    return _one(connection, *same)


def get(connection: sa.Connection, client: str, batch_id: str) -> ClientBatch | None:
    """Return a client's batch."""
    return _one(connection, ROW.client == client, ROW.id == batch_id)


def by_id(connection: sa.Connection, ids: Iterable[str]) -> dict[str, ClientBatch]:
    """Return those of these batches that there are, by id, whosever they are."""
    found = connection.execute(sa.select(*_SHOWN).where(ROW.id.in_(list(ids))))
    return {one.id: ClientBatch(**one._mapping) for one in found}


def page(
    connection: sa.Connection,
    client: str,
    limit: int,
    *,
    older_than: str | None = None,
    newer_than: str | None = None,
) -> Page:
    """Return a client's newest batches, or those just older or just newer than one, or between two; newest first."""
    query = sa.select(*_SHOWN).where(ROW.client == client).limit(limit + 1)
    if older_than is not None:
        query = query.where(ROW.id < older_than)
    if newer_than is not None:
        query = query.where(ROW.id > newer_than)
    is_backwards = newer_than is not None and older_than is None
    ordered = query.order_by(ROW.id if is_backwards else ROW.id.desc())
    found = [ClientBatch(**one._mapping) for one in connection.execute(ordered)]
    some = found[:limit]
    return Page(some[::-1] if is_backwards else some, len(found) > limit)


def initiate_cancel(connection: sa.Connection, batch_id: str, at: int) -> None:
    """Record that a client cancels its batch; the first time counts, and only before the end."""
    unended = sa.update(client_batches).where(ROW.id == batch_id, UNENDED, ROW.cancel_initiated_at.is_(None))
    connection.execute(unended.values(cancel_initiated_at=at))


def overdue(connection: sa.Connection, at: int) -> list[str]:
    """Return the ids of the batches that should have ended by then, and whose requests were not told to lapse yet."""
    late = sa.select(ROW.id).where(UNENDED, ROW.expires_at <= at, ROW.lapsed_at.is_(None))
    return list(connection.scalars(late.order_by(ROW.expires_at)))


def lock_row(connection: sa.Connection, batch_id: str) -> None:
    """Let nobody move the counts of a batch until the transaction ends."""
    connection.execute(sa.select(ROW.id).where(ROW.id == batch_id).with_for_update())


def lapse(connection: sa.Connection, batch_id: str, at: int) -> None:
    """Record that those of a batch's requests that have not ended were told to."""
    connection.execute(sa.update(client_batches).where(ROW.id == batch_id).values(lapsed_at=at))


def next_expiry(connection: sa.Connection) -> int | None:
    """Return when the next batch expires that has not ended, in milliseconds since the epoch."""
    earliest: int | None = connection.scalar(
        sa.select(sa.func.min(ROW.expires_at)).where(UNENDED, ROW.lapsed_at.is_(None))
    )
    return earliest


def archive(connection: sa.Connection, before: Milliseconds, limit: int) -> int:
    """Archive up to `limit` ended batches made before then, as their answers are about to go; return how many."""
    old = sa.select(ROW.id).where(UNARCHIVED, ROW.created_at < before, ROW.ended_at.is_not(None))
    some = sa.update(client_batches).where(ROW.id.in_(old.order_by(ROW.created_at).limit(limit)))
    return connection.execute(some.values(archived_at=now())).rowcount


def prune(connection: sa.Connection, before: Milliseconds, limit: int) -> int:
    """Delete up to `limit` ended and archived batches made before then; return how many."""
    old = sa.select(ROW.id).where(
        ROW.id < _first_id(before), ROW.ended_at.is_not(None), ROW.archived_at.is_not(None)
    )
    gone = sa.delete(client_batches).where(ROW.id.in_(old.order_by(ROW.id).limit(limit)))
    return connection.execute(gone).rowcount


def purge(connection: sa.Connection, client: str, at: int) -> int:
    """Archive all of a client's batches and erase what they say of their contents; return how many it has.

    The callbacks of those that have ended are erased too, unless the client has deliveries that are still to be made.
    """
    theirs = sa.update(client_batches).where(ROW.client == client)
    # Two questions, as each has an index: in the words of one, all that were ever delivered would be read.
    waits = (
        sa.exists().where(undelivered, deliveries.c.client == client) for undelivered in (AVAILABLE, ASIDE)
    )
    is_needed = sa.or_(ROW.ended_at.is_(None), *waits)
    erased: dict[str, Any] = {"digest": b"", "idempotency_key": None, "origin": None}
    erased["callback"] = sa.case((is_needed, ROW.callback))
    erased["archived_at"] = sa.func.coalesce(ROW.archived_at, at)
    return connection.execute(theirs.values(erased)).rowcount


def delete(connection: sa.Connection, client: str, batch_id: str) -> bool:
    """Delete a client's batch that has ended; return whether it was there and had."""
    gone = sa.delete(client_batches).where(
        ROW.client == client, ROW.id == batch_id, ROW.ended_at.is_not(None)
    )
    return connection.execute(gone).rowcount == 1


def _one(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> ClientBatch | None:
    row = connection.execute(sa.select(*_SHOWN).where(*conditions).order_by(ROW.id).limit(1)).one_or_none()
    return None if row is None else ClientBatch(**row._mapping)


def _first_id(at: int) -> str:
    """Return the lowest id that a batch made at that time can have: ids are UUIDv7."""
    return f"{max(0, at):012x}{'0' * 20}"
