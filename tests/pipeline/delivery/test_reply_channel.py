"""Replies through a real Valkey: asked before or after the end, answered once each, only to the request's client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
import redis
import sqlalchemy as sa
from tests.fixtures.deliveries import completed_request
from tests.fixtures.segments import insert_requests

from carpool.contract import WAITS, Wait, encode_wait
from carpool.not_there import NOT_THERE, NotThere, decode_not_there
from carpool_worker import database
from carpool_worker.coordination.keys import WAITING
from carpool_worker.pipeline.delivery.channels import reply
from carpool_worker.store.requests.answers import load_answers

NOW = 1_800_000_000_000
ID, OTHER_ID = "a" * 32, "b" * 32
BODY = b'{"type":"succeeded","message":{"id":"msg_1"}}'


@pytest.fixture
def server(redis_url: str) -> Any:
    with redis.Redis.from_url(redis_url) as connection:
        yield connection


def given_final(engine: sa.Engine, *ids: str, client: str = "billing") -> None:
    with database.write(engine) as connection:
        requests = [completed_request(id_, NOW, client=client) for id_ in ids]
        insert_requests(connection, requests, answers=dict.fromkeys(ids, BODY))


def wait(server: redis.Redis, *ids: str, client: str = "billing", reply_to: str = "carpool:reply:1") -> None:
    server.rpush(WAITS, encode_wait(Wait(client, reply_to, list(ids))))


def replies(server: redis.Redis, reply_to: str = "carpool:reply:1") -> list[str]:
    items: Any = server.lrange(reply_to, 0, -1)
    return [msgspec.json.decode(item)["id"] for item in items]


def collect(server: redis.Redis, engine: sa.Engine, *ids: str) -> int:
    """Do what the collector does after each commit."""
    waited = reply.waited(server, ids)
    with database.read(engine) as connection:
        answers = load_answers(connection, sorted(waited))
    return reply.push(server, answers)


def test_a_wait_after_the_end_is_answered_at_once(server: redis.Redis, engine: sa.Engine) -> None:
    # Given
    given_final(engine, ID)
    wait(server, ID, OTHER_ID)

    # When
    pushed = reply.answer_waits(server, engine)

    # Then
    assert (pushed, replies(server)) == (1, [ID])
    assert reply.waited(server, [ID, OTHER_ID]) == {OTHER_ID}


def test_one_run_answers_however_many_wait(server: redis.Redis, engine: sa.Engine) -> None:
    # Given
    given_final(engine, ID)
    for number in range(2 * reply.WAITS_AT_A_TIME + 1):
        wait(server, ID, reply_to=f"carpool:reply:{number}")

    # When
    pushed = reply.answer_waits(server, engine)

    # Then
    assert (pushed, server.llen(WAITS)) == (2 * reply.WAITS_AT_A_TIME + 1, 0)


def test_a_wait_before_the_end_is_answered_when_it_comes(server: redis.Redis, engine: sa.Engine) -> None:
    # Given
    wait(server, ID)
    assert reply.answer_waits(server, engine) == 0

    # When
    given_final(engine, ID, OTHER_ID)
    pushed = collect(server, engine, ID, OTHER_ID)

    # Then
    assert (pushed, replies(server)) == (1, [ID])
    assert collect(server, engine, ID, OTHER_ID) == 0


def test_a_repeated_wait_is_answered_once(server: redis.Redis, engine: sa.Engine) -> None:
    # Given
    wait(server, ID)
    wait(server, ID)
    reply.answer_waits(server, engine)

    # When
    given_final(engine, ID)
    collect(server, engine, ID)

    # Then
    assert replies(server) == [ID]


def test_everyone_who_waits_for_a_request_is_answered(server: redis.Redis, engine: sa.Engine) -> None:
    # Given
    wait(server, ID)
    wait(server, ID, reply_to="carpool:reply:2")
    reply.answer_waits(server, engine)

    # When
    given_final(engine, ID)
    collect(server, engine, ID)

    # Then
    assert replies(server) == replies(server, "carpool:reply:2") == [ID]


def test_another_client_is_not_answered_before_or_after_the_end(
    server: redis.Redis, engine: sa.Engine
) -> None:
    # Given
    wait(server, ID, client="thief", reply_to="carpool:reply:thief")
    reply.answer_waits(server, engine)

    # When
    given_final(engine, ID)
    collect(server, engine, ID)
    wait(server, ID, client="thief", reply_to="carpool:reply:thief")
    reply.answer_waits(server, engine)

    # Then
    assert replies(server, "carpool:reply:thief") == []


def test_an_answer_committed_right_after_the_read_is_not_missed(
    server: redis.Redis, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given: a collector that commits, and checks for waiters, right after the wait has read the tables
    @contextmanager
    def commit_first(on: sa.Engine) -> Iterator[sa.Connection]:
        monkeypatch.undo()
        with database.read(on) as connection:
            yield connection
        given_final(on, ID)
        collect(server, on, ID)

    monkeypatch.setattr(database, "read", commit_first)
    wait(server, ID)

    # When
    reply.answer_waits(server, engine)

    # Then
    assert replies(server) == [ID]


def test_many_ids_are_answered_in_slices(server: redis.Redis, engine: sa.Engine) -> None:
    # Given
    ids = [f"{number:032x}" for number in range(reply.IDS_AT_A_TIME + 7)]
    given_final(engine, *ids)
    wait(server, *ids)

    # When
    reply.answer_waits(server, engine)

    # Then
    assert sorted(replies(server)) == ids


def test_reply_lists_and_waiters_expire_when_nobody_reads_them(
    server: redis.Redis, engine: sa.Engine
) -> None:
    # Given
    given_final(engine, ID)
    wait(server, ID, OTHER_ID)

    # When
    reply.answer_waits(server, engine)

    # Then
    assert 0 < int(server.ttl("carpool:reply:1")) <= 3_600
    assert 0 < int(server.ttl(WAITING)) <= 3_600


def test_with_nobody_waiting_nothing_is_asked_of_redis_but_that(server: redis.Redis) -> None:
    assert reply.waited(server, [ID]) == set()
    assert reply.waited(server, []) == set()
    assert reply.push(server, {}) == 0


def told(server: redis.Redis, engine: sa.Engine, *ids: str, age: int | None = 0, days: float = 0) -> Any:
    """Return what a producer of billing is told that waits for these."""
    server.rpush(WAITS, encode_wait(Wait("billing", "carpool:reply:1", list(ids), age=age)))
    reply.answer_waits(server, engine, days)
    items: Any = server.lrange("carpool:reply:1", 0, -1)
    server.delete("carpool:reply:1")
    return [decode_not_there(item[1:]) for item in items if item.startswith(NOT_THERE)]


def test_who_waits_for_what_nobody_enqueued_is_told_once_the_inbox_is_read_that_far(
    server: redis.Redis, engine: sa.Engine
) -> None:
    # Given one that has ended, one of another client, and an entry that has not been read
    given_final(engine, ID)
    given_final(engine, OTHER_ID, client="shop")
    unknown = "c" * 32
    entry: Any = server.xadd("carpool:{5}:inbox", {"v2": b""})

    # Then nobody is told anything, until the entry is gone, or is younger than the wait by a second
    assert told(server, engine, ID, OTHER_ID, unknown) == []
    assert told(server, engine, unknown, age=0) == []
    assert told(server, engine, unknown, age=60_000) == [NotThere([unknown], [])]
    server.xdel("carpool:{5}:inbox", entry)
    assert told(server, engine, ID, OTHER_ID, unknown) == [NotThere([OTHER_ID, unknown], [])]

    # And producers that know nothing of it are told nothing
    assert told(server, engine, unknown, age=None) == []


def test_what_is_past_its_retention_is_told_apart(server: redis.Redis, engine: sa.Engine) -> None:
    def id_of(at: int) -> str:
        return f"{at:012x}7000a000000000000000"

    old, new = id_of(database.now() - 3 * 86_400_000), id_of(database.now())
    assert told(server, engine, old, new, days=2) == [NotThere([new], [old])]
    assert told(server, engine, old) == [NotThere([old], [])]
