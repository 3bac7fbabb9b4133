"""SQL that erases the contents of a client's requests, or of one. Usage, cost, times, models and ids stay.

Contents are erased a segment at a time. Those of one request are cut out of the segments that it shares with others.
Each transaction keeps `carpool retry` from running (discarded.RETRY_LOCK), which needs params.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from carpool.segments import ERASED
from carpool_worker.database import lock
from carpool_worker.models.indexes import CANCEL_REQUESTED
from carpool_worker.models.tables import answers, params, requests, segments, tags
from carpool_worker.states import RequestState
from carpool_worker.store.deliveries import coverage
from carpool_worker.store.requests.discarded import RETRY_LOCK
from carpool_worker.store.requests.endings import CANCELED_BODY
from carpool_worker.store.requests.erasing import by_segment, erase
from carpool_worker.store.requests.rows import among
from carpool_worker.store.requests.segments import Place, bodies, split

TEXTS = ("metadata", "idempotency_key", "params_digest", "custom_id", "error")
"""Columns of a request with what its client, or an error, says."""


class Erased(NamedTuple):
    """What one step did: the last segment that it erased (None: there were no more), and how many rows went."""

    last: int | None
    requests: int
    gone: Counter[str]  # params, answers, deliveries


def count(connection: sa.Connection, client: str) -> int:
    """Return how many requests of a client are in the ledger."""
    theirs = sa.select(sa.func.coalesce(sa.func.sum(segments.c.requests), 0))
    return int(connection.scalar(theirs.where(segments.c.client == client)) or 0)


def client_of(connection: sa.Connection, request_id: str) -> str:
    """Return whose request this is; it must be in the tables."""
    return str(connection.scalars(sa.select(requests.c.client).where(requests.c.id == request_id)).one())


def erase_requests(connection: sa.Connection, client: str, after: int, limit: int) -> Erased:
    """Erase what is in a client's requests, but for their answers: up to `limit` segments, after the segment `after`.

    The params of a request that is going to be sent are kept. A delivery that is still due stays, with the callback
    that it goes to, and is made without the content.
    """
    lock(connection, RETRY_LOCK)
    row = segments.c
    page = (
        sa.select(row.id, row.ids).where(row.client == client, row.id > after).order_by(row.id).limit(limit)
    )
    members = {segment_id: split(ids) for segment_id, ids in connection.execute(page)}
    ids = [id_ for some in members.values() for id_ in some]
    gone = Counter(params=_erase_params(connection, members, _wanted(connection, ids)))
    gone["deliveries"] = _erase_facts(connection, ids)
    _erase_callbacks(connection, members)
    return Erased(max(members) if len(members) == limit else None, len(ids), gone)


def erase_answers(connection: sa.Connection, client: str, after: int, limit: int) -> Erased:
    """Erase a client's answers: up to `limit` segments, after the segment `after`; what says "canceled" is kept."""
    lock(connection, RETRY_LOCK)
    row = answers.c
    page = sa.select(row.id).where(row.client == client, row.id > after).order_by(row.id).limit(limit)
    ids = list(connection.scalars(page))
    awaited = coverage.awaiting_delivery(connection, ids)
    erased, whole = 0, []
    for segment_id, all_ in bodies(connection, answers, ids):
        unwanted = [at for at, one in enumerate(all_) if one not in (ERASED, CANCELED_BODY)]
        if segment_id in awaited or CANCELED_BODY in all_:
            erase(connection, answers, {segment_id: unwanted})
        else:
            whole.append(segment_id)
        erased += len(unwanted)
    coverage.prune(connection, whole)
    connection.execute(sa.delete(answers).where(row.id.in_(whole)))
    return Erased(ids[-1] if len(ids) == limit else None, 0, Counter(answers=erased))


def erase_request(connection: sa.Connection, request_id: str) -> Counter[str]:
    """Erase what is in one request and its answer; return how many params, answers and deliveries were erased.

    The callback stays for as long as the segment has other requests that may need it.
    """
    lock(connection, RETRY_LOCK)
    row = requests.c
    columns = (row.segment_id, row.answer_id, row.answer_position, row.state)
    found = connection.execute(sa.select(*columns).where(row.id == request_id)).one()
    gone = Counter(deliveries=_erase_facts(connection, [request_id]))
    if not _wanted(connection, [request_id]):
        gone["params"] = _cut(connection, [request_id])
    if found.answer_id is not None and found.state != RequestState.CANCELED:
        gone["answers"] = erase(connection, answers, {found.answer_id: [found.answer_position]})
    ids = connection.scalar(sa.select(segments.c.ids).where(segments.c.id == found.segment_id))
    _erase_callbacks(connection, {found.segment_id: split(ids or b"")})
    return gone


def scrub(engine: sa.Engine) -> bool:
    """Remove deleted bytes from SQLite's files too; return False if other connections or a full disk prevent it.

    SQLite leaves deleted bytes in its pages and its log until it reuses the space. VACUUM rewrites the file, which
    takes as much disk space again, and the checkpoint truncates the log (sqlite.org: lang_vacuum and wal).
    """
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute("VACUUM")
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [busy, *_] = cursor.fetchone() or [1]
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return bool(busy == 0)


Members = Mapping[int, Sequence[str]]
"""The ids of the requests of some segments, by the segment's id."""


def _wanted(connection: sa.Connection, ids: Sequence[str]) -> set[str]:
    """Return those of `ids` that are going to be sent to Anthropic, with their params."""
    row = requests.c
    running = sa.select(row.id).where(among(connection, ids), row.finished_at.is_(None), ~CANCEL_REQUESTED)
    return set(connection.scalars(running))


def _erase_params(connection: sa.Connection, members: Members, wanted: set[str]) -> int:
    """Delete the params of these segments; where some are wanted, cut out the others. Return how many were erased."""
    mixed = {one: ids for one, ids in members.items() if not wanted.isdisjoint(ids)}
    whole = params.c.id.in_([one for one in members if one not in mixed])
    kept = set(connection.scalars(sa.select(params.c.id).where(whole)))
    connection.execute(sa.delete(params).where(whole))
    unwanted = [id_ for ids in mixed.values() for id_ in ids if id_ not in wanted]
    return sum(len(members[one]) for one in kept) + _cut(connection, unwanted)


def _cut(connection: sa.Connection, ids: Sequence[str]) -> int:
    if not ids:
        return 0
    row = requests.c
    given = among(connection, ids), row.position.is_not(None)
    places = connection.execute(sa.select(row.segment_id, row.position).where(*given)).all()
    connection.execute(sa.update(requests).where(*given).values(position=None))
    return erase(connection, params, by_segment(map(Place._make, places)))


def _erase_facts(connection: sa.Connection, ids: Sequence[str]) -> int:
    """Erase what these requests say elsewhere; return how many deliveries, all of them over, were deleted."""
    texts = [requests.c[name] for name in TEXTS]
    says = sa.or_(*(text.is_not(None) for text in texts))
    connection.execute(sa.update(requests).where(among(connection, ids), says).values(dict.fromkeys(TEXTS)))
    connection.execute(sa.delete(tags).where(among(connection, ids, tags.c.request_id)))
    return coverage.erase(connection, ids)


def _erase_callbacks(connection: sa.Connection, members: Members) -> None:
    """Erase the callbacks of these segments where none of their requests can still need it."""
    given = segments.c.id.in_(list(members)), segments.c.callback.is_not(None)
    kept = sa.exists().where(params.c.id == segments.c.id)
    found = connection.scalars(sa.select(segments.c.id).where(*given, ~kept)).all()
    ids = [id_ for one in found for id_ in members[one]]
    row = requests.c
    needed = sa.select(row.segment_id).where(
        among(connection, ids), sa.or_(row.finished_at.is_(None), coverage.is_undelivered())
    )
    free = set(found) - set(connection.scalars(needed))
    connection.execute(sa.update(segments).where(segments.c.id.in_(free)).values(callback=None))
