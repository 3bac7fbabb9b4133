"""Answers pushed to the lists that entries named: at once, in one round trip, and never more than a list may hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from carpool.answers import unpack_answers
from carpool.contract import REPLIES, REPLY_TTL, PackedAnswers
from carpool.segments import pack
from carpool_worker.pipeline.delivery.channels.reply import REPLY_LENGTH, push_packed

ONE, OTHER = REPLIES + "1" * 32, REPLIES + "2" * 32


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as connection:
        yield connection


def answers(*numbers: int) -> PackedAnswers:
    return PackedAnswers(
        client="billing",
        model="claude-haiku-4-5",
        batch_id="msgbatch_1",
        finished_at=1_800_000_000_000,
        ids=b"".join(number.to_bytes(16, "big") for number in numbers),
        results=pack([b'{"type":"succeeded","message":{"id":"msg_%d"}}' % number for number in numbers]),
        enqueued_at=[1_700_000_000_000] * len(numbers),
    )


def pushed(server: redis.Redis, reply_to: str) -> list[int]:
    items: Any = server.lrange(reply_to, 0, -1)
    return [int(answer.id, 16) for item in items for answer in unpack_answers(item)]


def test_answers_are_appended_to_each_list_in_their_order(server: redis.Redis) -> None:
    assert push_packed(server, {ONE: [answers(1, 2), answers(3)], OTHER: [answers(4)]}) == 3
    assert push_packed(server, {ONE: [answers(5)]}) == 1
    assert (pushed(server, ONE), pushed(server, OTHER)) == ([1, 2, 3, 5], [4])
    assert 0 < int(server.ttl(ONE)) <= REPLY_TTL


def test_a_list_that_nobody_reads_keeps_the_first_and_no_more(server: redis.Redis) -> None:
    # Given a list with room for two
    assert push_packed(server, {ONE: [answers(n) for n in range(REPLY_LENGTH - 2)]}) == REPLY_LENGTH - 2
    # When
    fitted = push_packed(server, {ONE: [answers(1_000), answers(1_001), answers(1_002)], OTHER: [answers(7)]})
    # Then
    assert fitted == 3
    assert pushed(server, ONE)[-3:] == [REPLY_LENGTH - 3, 1_000, 1_001]
    assert push_packed(server, {ONE: [answers(1_003)]}) == 0
    assert (server.llen(ONE), pushed(server, OTHER)) == (REPLY_LENGTH, [7])


def test_with_nothing_to_push_nothing_is_asked_of_redis(server: redis.Redis) -> None:
    before = server.info("stats")["total_commands_processed"]
    assert push_packed(server, {}) == 0
    assert server.info("stats")["total_commands_processed"] == before + 1  # the first INFO
