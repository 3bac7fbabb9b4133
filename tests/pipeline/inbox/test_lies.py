"""Entries that lie about what is in them, or would unpack to gigabytes: they end in the quarantine, cheaply."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import redis
import sqlalchemy as sa
import zstandard
from tests.fixtures.agents import IN_AN_HOUR
from tests.fixtures.inbox import append, append_packed, entry, envelope
from tests.fixtures.queries import rows

from carpool.contract import INBOX, QUEUED, Entry, encode_entry
from carpool.segments import SEGMENT_REQUESTS, pack
from carpool_worker.coordination.keys import QUARANTINE
from carpool_worker.pipeline.batching import aggregator
from carpool_worker.pipeline.inbox.stream import Inbox

MB = 1_000_000
BOUND = 150 * MB
"""Bytes: a body of the longest kind and its copies. A bomb that is unpacked takes a gigabyte."""

TWO = [envelope(1), envelope(2)]


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as server:
        yield server


def framed(content: bytes, **options: bool) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(content)  # type: ignore[arg-type]


def of(*lengths: int, count: int | None = None, rest: bytes = b"{}{}") -> bytes:
    claimed = len(lengths) if count is None else count
    return struct.pack(f"<{len(lengths) + 1}I", claimed, *lengths) + rest


def bomb() -> bytes:
    """A gigabyte of spaces in some thirty kilobytes."""
    compressor = zstandard.ZstdCompressor(level=19).compressobj(size=1_000 * MB)
    return b"".join([*(compressor.compress(b" " * MB) for _ in range(1_000)), compressor.flush()])


def unsized_bomb() -> bytes:
    compressor = zstandard.ZstdCompressor(level=19, write_content_size=False).compressobj()
    return b"".join([*(compressor.compress(b" " * MB) for _ in range(1_000)), compressor.flush()])


def claiming(size: int, content: bytes) -> bytes:
    """A frame whose header claims another size than its content has: it is its 4 bytes after the descriptor."""
    frame = bytearray(framed(content + b" " * (70_000 - len(content))))
    assert zstandard.frame_content_size(bytes(frame)) == 70_000
    place = bytes(frame).index(struct.pack("<I", 70_000))
    frame[place : place + 4] = struct.pack("<I", size)
    return bytes(frame)


def with_dictionary() -> bytes:
    samples: list[bytes | bytearray | memoryview] = [
        b'{"model":"%d","max_tokens":%d}' % (n, n * 7) for n in range(2_000)
    ]
    known = zstandard.train_dictionary(4_000, samples)
    return zstandard.ZstdCompressor(dict_data=known).compress(of(2, 2))


LONG_BODY = b'{"a":"%b"}' % (b"a" * 200_000)
LONG = len(LONG_BODY)

LIES: dict[str, Callable[[], bytes]] = {
    "a gigabyte": bomb,
    "a gigabyte that says nothing of its size": unsized_bomb,
    "claims four gigabytes": lambda: claiming(2**32 - 1, of(2, 2)),
    "claims less than it has": lambda: claiming(65_000, of(2, 2)),
    "no content size": lambda: framed(of(2, 2), write_content_size=False),
    "several frames": lambda: pack([b"{}", b"{}"]) + pack([b"{}"]),
    "a skippable frame behind": lambda: pack([b"{}", b"{}"]) + b"\x50\x2a\x4d\x18\x04\0\0\0abcd",
    "a skippable frame before": lambda: b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + pack([b"{}", b"{}"]),
    "a dictionary": with_dictionary,
    "lengths too long": lambda: framed(of(2, 3)),
    "lengths too short": lambda: framed(of(2, 1)),
    "lengths that overflow": lambda: framed(of(2**32 - 1, 2**32 - 1)),
    "more bodies than lengths": lambda: framed(of(2, 2, count=200)),
    "a count of billions": lambda: framed(of(2, 2, count=2**32 - 1)),
    "no bodies": lambda: framed(of(rest=b"")),
    "201 bodies": lambda: framed(of(*[2] * (SEGMENT_REQUESTS + 1), rest=b"{}" * (SEGMENT_REQUESTS + 1))),
    "several bodies above the limit together": lambda: framed(of(LONG, LONG, rest=2 * LONG_BODY)),
    "a body above the API's limit": lambda: pack([b'{"a":"%b"}' % (b"a" * 33 * MB)]),
    "one body more": lambda: pack([b"{}"] * 3),
    "one body less": lambda: pack([b"{}"]),
    "a body that was erased": lambda: pack([b"{}", b""]),
    "cut": lambda: pack([b"{}", b"{}"])[:-1],
    "empty": lambda: b"",
    "no frame": lambda: b"{}",
    "gzip": lambda: b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0",
}


def assert_only_that_is_quarantined(
    engine: sa.Engine, server: redis.Redis, lie: Entry, requests: int
) -> None:
    append(server, envelope(8))
    append_packed(server, encode_entry(lie), requests)
    append(server, envelope(9))

    aggregator.aggregate(engine, Inbox(server, 30), IN_AN_HOUR, lambda _: None)

    assert {row.id for row in rows(engine, "SELECT id FROM requests")} == {f"{n:032x}" for n in (8, 9)}
    assert server.xlen(QUARANTINE) == 1
    assert int(server.get(QUEUED) or 0) == server.xlen(INBOX) == 0


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_params_that_lie_are_quarantined_in_bounded_memory(
    engine: sa.Engine, server: redis.Redis, lie: Callable[[], bytes]
) -> None:
    told = msgspec.structs.replace(entry(*TWO), params=lie())
    tracemalloc.start()
    try:
        assert_only_that_is_quarantined(engine, server, told, 2)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < BOUND


COLUMNS = ("metadata", "idempotency_keys", "submit_by", "deadlines", "traces", "custom_ids", "tags")


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("column", COLUMNS)
def test_columns_of_another_length_are_quarantined(
    engine: sa.Engine, server: redis.Redis, column: str, count: int
) -> None:
    values: list[Any] = [[]] * count if column == "tags" else [None] * count
    lie = msgspec.structs.replace(entry(*TWO), **{column: values})
    assert_only_that_is_quarantined(engine, server, lie, 2)


@pytest.mark.parametrize("size", [16, 31, 33, 48])
def test_ids_of_another_number_are_quarantined(engine: sa.Engine, server: redis.Redis, size: int) -> None:
    lie = msgspec.structs.replace(entry(*TWO), ids=bytes(range(size)))
    assert_only_that_is_quarantined(engine, server, lie, size // 16)


@pytest.mark.parametrize("count", [1, 3])
def test_times_of_another_number_are_quarantined(engine: sa.Engine, server: redis.Redis, count: int) -> None:
    lie = msgspec.structs.replace(entry(*TWO), enqueued_at=[1] * count)
    assert_only_that_is_quarantined(engine, server, lie, 2)
