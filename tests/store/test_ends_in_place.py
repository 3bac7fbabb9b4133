"""On PostgreSQL a request ends in the page that it was written to, so that no index is written for it (HOT updates)."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.fixtures.agents import Carpool, request
from tests.fixtures.waiting import until

from carpool import Producer
from carpool_worker.database import read

COUNT = 600
UPDATES = sa.text("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'requests'")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_no_end_of_a_request_writes_an_index(carpool: Carpool, producer: Producer) -> None:
    # Given many requests, in pages that are as full as they get
    producer.enqueue_many(request(f"Hello {number}") for number in range(COUNT))

    # When they have ended, and PostgreSQL has counted that
    carpool.until(lambda: carpool.ended(COUNT))
    updated, in_place = until(lambda: counted(carpool), within=20)

    # Then each did so in its page
    assert (updated, in_place) == (COUNT, COUNT)


def counted(carpool: Carpool) -> tuple[int, int] | None:
    with read(carpool.engine) as connection:
        updated, in_place = connection.execute(UPDATES).one()
    return (updated, in_place) if updated >= COUNT else None
