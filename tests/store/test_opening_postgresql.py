"""A database of PostgreSQL, by each of the names that its URL may begin with."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from carpool_worker.database import open_engine


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_it_is_connected_to_by_each_of_its_names(postgres_url: str, scheme: str) -> None:
    engine = open_engine(f"{scheme}://{postgres_url.partition('://')[2]}")
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT current_schema()"))
    assert engine.driver == "psycopg"
    engine.dispose()
