"""Replies from end to end: what a producer reads of its list is what another one gets for asking."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from tests.fixtures.agents import Carpool, request
from tests.fixtures.waiting import until

from carpool import Producer, Request, Result, waiting
from carpool.contract import WAITS
from carpool_worker.pipeline.collection.replies import Replies
from carpool_worker.pipeline.delivery.channels import reply
from carpool_worker.simulator import RemoteSimulator, Script

COUNT = 300
"""More than a segment holds."""

PROPERTIES = tuple(name for name, member in vars(Result).items() if not callable(member) and name[0] != "_")


def read(result: Result) -> dict[str, Any]:
    return {name: getattr(result, name) for name in PROPERTIES}


def pushing(carpool: Carpool, server: redis.Redis) -> Carpool:
    """Let the collector's answers be pushed, as its task does."""

    def announce(request_ids: Sequence[str], replies: Replies) -> None:
        reply.push_packed(server, replies)

    carpool.announce = announce  # type: ignore[method-assign]
    return carpool


def test_what_is_pushed_is_what_a_wait_would_bring(
    carpool: Carpool,
    producer: Producer,
    simulator: RemoteSimulator,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given requests of all kinds of ends, with and without metadata, enqueued for a reply
    monkeypatch.setattr(waiting, "GRACE", 1_000.0)
    good = [Request(request(f"Hello {n}"), metadata={"n": n} if n % 2 else None) for n in range(COUNT)]
    simulator.script(
        Script(contains="flaky", outcome="errored", error_type="overloaded_error", times=1),
        Script(contains="wrong", outcome="errored", error_type="invalid_request_error"),
        Script(contains="late", outcome="expired"),
    )
    bad = [Request(request(word)) for word in ("flaky", "wrong", "late")]
    ids = producer.enqueue_many([*good, *bad], reply=True)
    # When they end
    pushing(carpool, carpool.server).until(lambda: carpool.ended(COUNT + len(bad)))
    # Then all are there with nothing asked
    pushed = {result.id: read(result) for result in producer.as_completed(ids, timeout=20)}
    assert sorted(pushed) == sorted(ids)
    assert not carpool.server.exists(WAITS)
    # And another process of the client, which has to ask, reads the same
    with Producer(redis_url, client="tests") as other, ThreadPoolExecutor(1) as pool:
        wait = pool.submit(lambda: [read(result) for result in other.as_completed(ids, timeout=60)])
        until(wait.done, step=lambda: reply.answer_waits(carpool.server, carpool.engine))
    assert {result["id"]: result for result in wait.result()} == pushed
