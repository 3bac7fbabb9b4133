"""SQL that erases the contents of a client's requests. Usage, cost, times, models and ids are the ledger, and stay."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence

import sqlalchemy as sa

from carpool_worker.models.indexes import CANCEL_REQUESTED
from carpool_worker.models.tables import answers, attempts, deliveries, params, requests
from carpool_worker.states import FINAL_DELIVERY_STATES, RequestState
from carpool_worker.store.requests.rows import among

UNWANTED = sa.or_(requests.c.finished_at.is_not(None), CANCEL_REQUESTED)
"""Requests that are not going to be sent to Anthropic, so that nobody needs their params."""

ANSWERED = sa.and_(requests.c.finished_at.is_not(None), requests.c.state != RequestState.CANCELED)
"""Requests with an answer to erase; that of a canceled one says only that it was canceled."""


def count(connection: sa.Connection, client: str) -> int:
    """Return how many requests of a client are in the ledger."""
    theirs = sa.select(sa.func.count()).select_from(requests).where(requests.c.client == client)
    return connection.scalar(theirs) or 0


def page(connection: sa.Connection, client: str, after: str, limit: int) -> list[str]:
    """Return the ids of up to `limit` requests of a client, those that follow the id `after`."""
    theirs = sa.select(requests.c.id).where(requests.c.client == client, requests.c.id > after)
    return list(connection.scalars(theirs.order_by(requests.c.id).limit(limit)))


def erase(connection: sa.Connection, ids: Sequence[str]) -> Counter[str]:
    """Erase all content of these requests; return how many params, answers and deliveries were deleted.

    A delivery that is still due stays, with the callback that it goes to, and is made without the content.
    """
    given = among(connection, ids)
    unwanted = sa.select(requests.c.id).where(given, UNWANTED)
    answered = sa.select(requests.c.id).where(given, ANSWERED)
    theirs = sa.select(requests.c.id).where(given)
    delivered = sa.and_(deliveries.c.request_id.in_(theirs), deliveries.c.state.in_(FINAL_DELIVERY_STATES))
    erased = Counter(
        params=_delete(connection, params, params.c.request_id.in_(unwanted)),
        answers=_delete(connection, answers, answers.c.request_id.in_(answered)),
        deliveries=_delete(connection, deliveries, delivered),
    )
    _delete(connection, attempts, attempts.c.request_id.in_(theirs))
    due = deliveries.c.request_id.in_(theirs)
    connection.execute(sa.update(deliveries).where(due).values(last_error=None))
    _erase_texts(connection, given)
    return erased


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


def _delete(connection: sa.Connection, table: sa.Table, where: sa.ColumnElement[bool]) -> int:
    return connection.execute(sa.delete(table).where(where)).rowcount


def _erase_texts(connection: sa.Connection, given: sa.ColumnElement[bool]) -> None:
    row = requests.c
    has_texts = sa.or_(row.metadata.is_not(None), row.idempotency_key.is_not(None))
    connection.execute(
        sa.update(requests).where(given, has_texts).values(metadata=None, idempotency_key=None)
    )
    needs_no_callback = sa.and_(
        row.finished_at.is_not(None), ~sa.exists().where(deliveries.c.request_id == row.id)
    )
    finished = sa.update(requests).where(given, row.callback.is_not(None), needs_no_callback)
    connection.execute(finished.values(callback=None))
