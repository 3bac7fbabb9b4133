"""Requests that share their system prompt: where they stand in a batch, what is marked, and what it costs."""

from __future__ import annotations

from typing import Any

from tests.integration.agents import Carpool, request

from carpool import Producer
from carpool_worker.database import read
from carpool_worker.lanes import Limits
from carpool_worker.store import requests


def prompts(carpool: Carpool, batch_id: str) -> list[str]:
    with read(carpool.engine) as connection:
        bodies = [body for _, body in requests.bodies(connection, batch_id)]
    return [body.partition(b'"system":"')[2][:1].decode() for body in bodies]


def asked(system: str) -> dict[str, Any]:
    return request() | ({"system": system} if system else {})


def test_requests_that_share_their_system_prompt_stand_next_to_each_other(
    carpool: Carpool, producer: Producer
) -> None:
    # Given requests with three beginnings in turn, in two chunks, and some with none
    carpool.limits = Limits(count=100, body_bytes=1_000_000, seconds=60)
    for _ in range(2):
        producer.enqueue_many([asked(system) for system in ("A", "B", "", "C") * 3])
        carpool.aggregate()

    # When the batch's body is written
    [batch] = carpool.rows("SELECT id FROM batches")
    found = prompts(carpool, batch.id)

    # Then each beginning comes once, with all of its requests
    assert len(found) == 24
    assert sum(one != before for one, before in zip(found, ["-", *found], strict=False)) == 4


def test_requests_that_share_their_system_prompt_go_into_the_same_batch(
    carpool: Carpool, producer: Producer
) -> None:
    # Given room for four requests in a batch
    carpool.limits = Limits(count=4, body_bytes=1_000_000, seconds=0)

    # When two beginnings come in turn
    producer.enqueue_many([asked(system) for system in ("A", "B") * 4])
    carpool.aggregate()

    # Then each has a batch of its own
    ids = [row.id for row in carpool.rows("SELECT id FROM batches")]
    assert sorted("".join(prompts(carpool, one)) for one in ids) == ["AAAA", "BBBB"]
