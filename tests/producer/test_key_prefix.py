"""A key prefix is before every key that reaches Redis, whoever sends the command, and in no reply."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis

from carpool import AsyncProducer, InvalidSetting, Producer
from carpool.contract import REPLIES
from carpool.key_prefix import prefixed
from carpool.redis_url import connect, connect_async
from carpool.shards import MAX_SHARDS, inbox_of, queued_of


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("GET k", "GET p:k"),
        ("get k", "GET p:k"),
        ("PING k", "PING k"),
        ("SET k v PX 5", "SET p:k v PX 5"),
        ("MGET a b", "MGET p:a p:b"),
        ("DEL a b c", "DEL p:a p:b p:c"),
        ("BLPOP a b 0", "BLPOP p:a p:b 0"),
        ("BLMPOP 1 2 a b LEFT COUNT 3", "BLMPOP 1 2 p:a p:b LEFT COUNT 3"),
        ("LMPOP 1 a LEFT", "LMPOP 1 p:a LEFT"),
        ("EVALSHA sha 2 a b x y", "EVALSHA sha 2 p:a p:b x y"),
        ("EVAL return 0 x", "EVAL return 0 x"),
        ("XREAD COUNT 1 STREAMS a b 0 streams", "XREAD COUNT 1 STREAMS p:a p:b 0 streams"),
        ("XREADGROUP GROUP STREAMS STREAMS STREAMS a >", "XREADGROUP GROUP STREAMS STREAMS STREAMS p:a >"),
        ("XGROUP CREATE a g 0 MKSTREAM", "XGROUP CREATE p:a g 0 MKSTREAM"),
        ("XINFO GROUPS a", "XINFO GROUPS p:a"),
        ("MEMORY USAGE a", "MEMORY USAGE p:a"),
        ("MEMORY DOCTOR", "MEMORY DOCTOR"),
        ("SCAN 0 MATCH a* COUNT 5", "SCAN 0 MATCH p:a* COUNT 5"),
    ],
)
def test_it_is_before_each_key_and_nothing_else(command: str, expected: str) -> None:
    assert prefixed("p:", command.split()) == expected.split()
    as_bytes = [part.encode() for part in command.split()]
    assert [
        one.decode() if isinstance(one, bytes) else one for one in prefixed("p:", as_bytes)
    ] == expected.split()


@pytest.mark.parametrize(
    "command", ["FLUSHDB", "FLUSHALL", "KEYS *", "SCAN 0", "SORT a", "MIGRATE", "XREAD a 0", ""]
)
def test_a_command_whose_keys_are_unknown_is_not_sent(command: str) -> None:
    with pytest.raises(ValueError, match="is not sent"):
        prefixed("p:", command.split() or ["NO"])


def test_a_name_of_two_words_is_one_command() -> None:
    assert prefixed("p:", ["XINFO GROUPS", "a"]) == ["XINFO", "GROUPS", "p:a"]
    assert prefixed("p:", ["SCRIPT LOAD", "return redis.call('GET', KEYS[1])"])[:2] == ["SCRIPT", "LOAD"]


def test_replies_name_keys_without_it(redis_url: str) -> None:
    async def ask_async() -> list[Any]:
        server = connect_async(redis_url, "p:")
        await server.rpush("list", "b")
        replies = [
            await server.xread({"stream": "0"}),
            await server.execute_command("BLMPOP", 1, 1, "list", "LEFT"),  # type: ignore[no-untyped-call]
            [key async for key in server.scan_iter("str*")],
        ]
        await server.aclose()
        return replies

    with connect(redis_url, "p:") as server, redis.Redis.from_url(redis_url) as raw:
        raw.set("string", "a stranger's")
        entry = server.xadd("stream", {"a": "b"})
        server.rpush("list", "b")
        streams = [[b"stream", [(entry, {b"a": b"b"})]]]
        assert server.xread({"stream": "0"}) == streams
        assert server.blpop(["none", "list"], 1) in ((b"list", b"b"), [b"list", b"b"])
        assert list(server.scan_iter("str*")) == [b"stream"]
        with server.pipeline() as pipeline:
            assert pipeline.xread({"stream": "0"}).blpop(["none"], 1).execute() == [streams, None]
        with server.lock("lock", timeout=5):
            assert sorted(raw.keys()) == [b"p:lock", b"p:stream", b"string"]
        assert asyncio.run(ask_async()) == [streams, [b"list", [b"b"]], [b"stream"]]
        with pytest.raises(ValueError, match="FLUSHDB"):
            server.flushdb()


@pytest.mark.parametrize("shard", [0, 7, MAX_SHARDS - 1])
def test_a_shards_stream_and_counter_stay_together_in_a_cluster(redis_url: str, shard: int) -> None:
    with redis.Redis.from_url(redis_url) as server:
        names = [prefix + name(shard) for name in (inbox_of, queued_of) for prefix in ("", "p:", "a.b:")]
        slots = {redis.crc.key_slot(name.encode()) for name in names}
        assert len(slots) == 1
        assert server.ping()


def test_producers_keep_to_theirs(
    redis_url: str, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def enqueue() -> None:
        async with AsyncProducer(redis_url) as producer:
            await producer.enqueue_many([params] * 3)
            await producer.enqueue(params, reply=True)

    monkeypatch.setenv("CARPOOL_KEY_PREFIX", "blue:")
    asyncio.run(enqueue())
    with Producer(redis_url, inbox_shards=4) as producer:
        producer.cancel_all()
        request_id = producer.enqueue(params)
        with pytest.raises(TimeoutError):
            producer.wait(request_id, timeout=0.3)
    with Producer(redis_url, key_prefix="") as producer:
        producer.enqueue(params)

    with redis.Redis.from_url(redis_url, decode_responses=True) as server:
        keys = set(server.keys())
    assert {"carpool:{0}:inbox", "carpool:{0}:queued"} == {key for key in keys if not key.startswith("blue:")}
    assert {"blue:carpool:{0}:inbox", "blue:carpool:waits"} < keys
    assert not any(key.startswith(f"blue:{REPLIES}") for key in keys)


@pytest.mark.parametrize("prefix", ["a b", "{a}", "a*", "ü", "x" * 65, "a\n"])
def test_a_prefix_that_redis_reads_otherwise_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidSetting, match="key_prefix"):
        Producer(key_prefix=prefix)
