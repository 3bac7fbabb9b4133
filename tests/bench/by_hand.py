"""The whole way by hand: the same bytes through the same servers in one process, one step after another.

XADD and XREAD, INSERT of the params, POST of the batch, its end, the lines read, INSERT and RPUSH of them, LPOP.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import IO, Any
from urllib.parse import urlsplit

import msgspec
import redis
import sqlalchemy as sa
from tests.bench import bare, payloads
from tests.fixtures.waiting import until

from carpool.contract import MAX_ENTRY_REQUESTS, mint_id, to_json
from carpool_worker.claude.results import CHUNK_LINES
from carpool_worker.pipeline.inbox.stream import CHUNK_REQUESTS

STREAM, ANSWERS = "bench:requests", "bench:answers"
READ_ENTRIES = 8
Item = tuple[str, bytes]


def seconds(server: redis.Redis, engine: sa.Engine, url: str, count: int, size: int) -> float:
    """Return what the whole way takes."""
    return bare.timed(lambda: _walk(server, engine, url, count, size))


def _walk(server: redis.Redis, engine: sa.Engine, url: str, count: int, size: int) -> None:
    items = ((mint_id("bench"), to_json(params)) for params in payloads.params(count, size))
    for packed in bare.chunked(items, MAX_ENTRY_REQUESTS):
        server.xadd(STREAM, {"v": msgspec.msgpack.encode(packed)})
    with tempfile.TemporaryFile() as body:
        _take(server, engine, body)
        claude_id, _ = bare.post_batch(url, body)
    until(lambda: _status(url, claude_id) == "ended", bare.ENDED_WITHIN)
    for lines in bare.chunked(bare.result_lines(url, claude_id), CHUNK_LINES):
        with engine.begin() as connection:
            bare.insert(connection, "answers", [(bare.decode_line(line).custom_id, line) for line in lines])
        server.rpush(ANSWERS, *lines)
    while server.lpop(ANSWERS, MAX_ENTRY_REQUESTS):
        pass


def _take(server: redis.Redis, engine: sa.Engine, body: IO[bytes]) -> None:
    frame = b'{"requests":['
    for chunk in bare.chunked(_read(server), CHUNK_REQUESTS):
        with engine.begin() as connection:
            bare.insert(connection, "params", chunk)
        for custom_id, params in chunk:
            body.write(b'%b{"custom_id":"%b","params":%b}' % (frame, custom_id.encode(), params))
            frame = b","
    body.write(b"]}")


def _read(server: redis.Redis) -> Iterator[Item]:
    decode = msgspec.msgpack.Decoder(list[Item]).decode
    last: Any = "0"
    while answer := server.xread({STREAM: last}, count=READ_ENTRIES):
        entries: Any = answer[STREAM.encode()][0] if isinstance(answer, dict) else answer[0][1]
        for _, fields in entries:
            yield from decode(fields[b"v"])
        last = entries[-1][0]


def _status(url: str, claude_id: str) -> str:
    connection = HTTPConnection(urlsplit(url).netloc)
    connection.request("GET", f"/v1/messages/batches/{claude_id}", headers=bare.HEADERS)
    status = msgspec.json.decode(connection.getresponse().read())["processing_status"]
    connection.close()
    return str(status)
