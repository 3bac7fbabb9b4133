"""Replies from end to end: what a producer reads of its list is what another one gets for asking."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from tests.fixtures.agents import Carpool, request
from tests.fixtures.clients import Killed
from tests.fixtures.queries import params_bodies
from tests.fixtures.waiting import until

from carpool import Producer, Request, Result, waiting
from carpool.contract import WAITS, Answer
from carpool_worker.claude import results
from carpool_worker.pipeline.collection.replies import Replies
from carpool_worker.pipeline.delivery.channels import reply
from carpool_worker.simulator import RemoteSimulator, Script
from carpool_worker.store.requests.answers import load_answers

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


@pytest.mark.parametrize("asks_before", [False, True], ids=["asked for afterwards", "asked for before"])
def test_answers_that_a_crash_kept_from_being_pushed_come_once_from_sql(
    carpool: Carpool, producer: Producer, monkeypatch: pytest.MonkeyPatch, asks_before: bool
) -> None:
    # Given a producer that soon asks for what is not pushed
    monkeypatch.setattr(waiting, "GRACE", 0.0 if asks_before else 0.2)
    monkeypatch.setattr(waiting, "REPEAT_AFTER", (0.1,))
    monkeypatch.setattr(results, "CHUNK_LINES", 4)
    ids = producer.enqueue_many([request(f"Hello {n}") for n in range(12)], reply=True)
    carpool.aggregate()
    carpool.submit()
    carpool.until_polled("ended")
    ended: list[Sequence[str]] = []
    from_sql: set[str] = set()

    def announce(request_ids: Sequence[str], replies: Replies) -> None:
        if not request_ids:
            return
        ended.append(request_ids)
        if len(ended) == 2:
            raise Killed
        reply.push_packed(carpool.server, replies)

    def crash_and_go_on() -> None:
        with pytest.raises(Killed):
            carpool.collect()
        carpool.forget_waiting()
        carpool.collect()
        assert [len(some) for some in ended] == [4, 4, 4]

    def load(connection: sa.Connection, some: Sequence[str], client: str) -> dict[str, Answer]:
        loaded = load_answers(connection, some, client)
        from_sql.update(loaded)
        return loaded

    carpool.announce = announce  # type: ignore[method-assign]
    monkeypatch.setattr(reply, "load_answers", load)
    with ThreadPoolExecutor(1) as pool:
        # When a collector is killed between the commit of its second chunk and the push, before the wait or during it
        if not asks_before:
            crash_and_go_on()
        wait = pool.submit(lambda: list(producer.as_completed(ids, timeout=20)))
        if asks_before:
            until(lambda: carpool.server.llen(WAITS))
            crash_and_go_on()

        # Then each answer comes, and once
        until(wait.done, step=lambda: reply.answer_waits(carpool.server, carpool.engine))
    texts = {
        id_: json.loads(params)["messages"][0]["content"]
        for id_, params in params_bodies(carpool.engine).items()
    }
    assert sorted(result.id for result in wait.result()) == sorted(ids)
    assert all(result.text.endswith(f": {texts[result.id]}") for result in wait.result())
    assert from_sql >= set(ended[1])
