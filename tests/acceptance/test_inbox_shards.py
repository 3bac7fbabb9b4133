"""Requests spread over several streams of the inbox go through real processes."""

from __future__ import annotations

import pytest
from tests.acceptance.conftest import RunningCarpool
from tests.fixtures.agents import request

from carpool import Producer, Request

pytestmark = pytest.mark.timeout(180)


def test_requests_in_five_shards_are_all_answered_once(running_carpool: RunningCarpool) -> None:
    with running_carpool(concurrency=3) as carpool, Producer(carpool.redis_url, inbox_shards=5) as producer:
        keyed = (Request(request(str(n)), idempotency_key=str(n)) for n in range(300))
        ids = producer.enqueue_many(keyed)

        results = list(producer.as_completed(ids, timeout=120))

    assert sorted(result.id for result in results) == sorted(ids)
    assert {result.outcome for result in results} == {"succeeded"}
