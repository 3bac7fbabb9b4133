"""Rows that may be there already are inserted, replaced or added to, on both databases."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from carpool_worker.database import read, write
from carpool_worker.models.tables import endpoints, refusals
from carpool_worker.store.upserts import insert_missing, upsert

URL, OTHER = "https://example.com/a", "https://example.com/b"


def rows(engine: sa.Engine, table: sa.Table) -> list[tuple[Any, ...]]:
    with read(engine) as connection:
        return [tuple(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key))]


def test_a_row_that_is_there_is_left_alone_and_not_counted(engine: sa.Engine) -> None:
    with write(engine) as connection:
        assert insert_missing(connection, endpoints, [{"url": URL, "failing_since": 1}]) == 1
        assert insert_missing(connection, endpoints, [{"url": URL, "failing_since": 2}]) == 0
        assert insert_missing(connection, endpoints, []) == 0

    assert rows(engine, endpoints) == [(URL, 1, None, None)]


def test_columns_are_replaced_where_the_condition_holds(engine: sa.Engine) -> None:
    # Given two URLs, one of which is stopped
    first = [
        {"url": URL, "failing_since": 1, "stopped_at": None},
        {"url": OTHER, "failing_since": 1, "stopped_at": 5},
    ]
    second = [
        {"url": URL, "failing_since": 2, "stopped_at": 9},
        {"url": OTHER, "failing_since": 2, "stopped_at": 9},
    ]
    runs = endpoints.c.stopped_at.is_(None)

    # When both are stopped
    with write(engine) as connection:
        insert_missing(connection, endpoints, first)
        upsert(connection, endpoints, second, replace=("stopped_at",), where=runs)

    # Then only the column named has changed, and only where the URL was not stopped before
    assert rows(engine, endpoints) == [(URL, 1, 9, None), (OTHER, 1, 5, None)]


def test_counts_are_added_to(engine: sa.Engine) -> None:
    with write(engine) as connection:
        for count in (1, 4):
            upsert(connection, refusals, [{"model": "m", "status": "429", "count": count}], add=("count",))

    assert rows(engine, refusals) == [("m", "429", 5)]
