"""The history that growth is measured on is as good as what the agents wrote."""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import SQLModel
from tests.bench.history import History
from tests.fixtures.agents import Carpool, request

from carpool import Producer
from carpool_worker.database import read, write
from carpool_worker.models import tables
from carpool_worker.store.requests.answers import load_answers

REQUESTS, COPIES = 30, 4


def test_each_finished_request_of_a_history_has_its_answer(carpool: Carpool, producer: Producer) -> None:
    # Given some finished requests, and then none
    producer.enqueue_many(request(f"Hello {number}") for number in range(REQUESTS))
    carpool.until(lambda: carpool.ended(REQUESTS))
    history = History(carpool.engine)
    with write(carpool.engine) as connection:
        for table in SQLModel.metadata.tables.values():
            connection.execute(sa.delete(table))
    # When they are written several times
    written = history.write(carpool.engine, REQUESTS * COPIES, lambda _: None)
    # Then each has an id of its own, and its answer
    with read(carpool.engine) as connection:
        ids = list(connection.scalars(sa.select(tables.requests.c.id)))
        answered = load_answers(connection, ids)
    assert written == len(set(ids)) == REQUESTS * COPIES
    assert answered.keys() == set(ids)
    assert all(answer.message for answer in answered.values())


def test_what_follows_a_history_ends_as_ever(carpool: Carpool, producer: Producer) -> None:
    # Given a history beside the requests that it was made from
    producer.enqueue_many(request(f"Hello {number}") for number in range(REQUESTS))
    carpool.until(lambda: carpool.ended(REQUESTS))
    written = History(carpool.engine).write(carpool.engine, REQUESTS * COPIES, lambda _: None)
    # When more come
    producer.enqueue_many(request(f"Goodbye {number}") for number in range(REQUESTS))
    # Then they end too
    carpool.until(lambda: carpool.ended(written + 2 * REQUESTS))
