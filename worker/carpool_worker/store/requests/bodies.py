"""Reads the params of a batch's requests for its body, in the way that is fastest on each database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from carpool_worker.database import is_postgres, psycopg_connection
from carpool_worker.models.tables import params, requests
from carpool_worker.store.requests.rows import BATCHED

SPOOL_ROWS = 500
"""Requests read at a time while a batch's body is written: about a megabyte."""


def of_batch(connection: sa.Connection, batch_id: str) -> Iterator[tuple[str, bytes]]:
    """Yield the id and the params of each request of a batch, ordered by prefix, then by id.

    Few are in memory at a time.
    """
    waiting = requests.c.batch_id == batch_id, sa.type_coerce(requests.c.state, sa.Text) == BATCHED
    narrow = sa.select(requests.c.id, requests.c.prefix).where(*waiting)
    # The ids are sorted first and the params looked up one by one: sorted together, all params would be written to disk
    # once more. The offset keeps both databases from optimizing that away, so they return rows as they read them.
    ordered = narrow.order_by(requests.c.prefix, requests.c.id).offset(0).subquery()
    body = sa.select(params.c.body).where(params.c.request_id == ordered.c.id).scalar_subquery()
    query = sa.select(ordered.c.id, body)
    if is_postgres(connection):
        yield from _streamed_binary(connection, query)
        return
    streamed = connection.execution_options(stream_results=True, yield_per=SPOOL_ROWS).execute(query)
    for request_id, body in streamed:
        yield request_id, body


def _streamed_binary(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[tuple[str, bytes]]:
    # Through SQLAlchemy the bytes would come as hexadecimal text: twice as long, and to be decoded.
    compiled = query.compile(connection.engine)
    with psycopg_connection(connection) as driver, driver.cursor("bodies", binary=True) as cursor:
        cursor.itersize = SPOOL_ROWS
        yield from cursor.execute(str(compiled), compiled.params)
