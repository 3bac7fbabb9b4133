"""The bare cost of each stage's work: the same bytes through the same servers, and nothing else done with them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from http.client import HTTPConnection, HTTPResponse
from typing import IO, Any
from urllib.parse import urlsplit

import msgspec
import sqlalchemy as sa

from carpool_worker.claude.results import CHUNK_LINES
from carpool_worker.pipeline.inbox.stream import CHUNK_REQUESTS
from carpool_worker.store.requests import bodies

POST_BLOCK = 1 << 20
ENDED_WITHIN = 120.0
"""Seconds that the simulator may take until a batch has ended."""

HEADERS = {"x-api-key": "simulated", "anthropic-version": "2023-06-01"}


class Line(msgspec.Struct):
    """All that is read of a result line."""

    custom_id: str


decode_line = msgspec.json.Decoder(Line).decode


def copy_requests(source: sa.Engine, target: sa.Engine) -> float:
    """Insert the requests and params of `source` into `target` as they are; seconds, reading not included."""
    seconds = 0.0
    for table, key in (("requests", "id"), ("params", "request_id")):
        for rows in _pages(source, table, key):
            start = time.perf_counter()
            with target.begin() as connection:
                insert(connection, table, rows)
            seconds += time.perf_counter() - start
    return seconds


def insert(connection: sa.Connection, table: str, rows: Sequence[Sequence[Any]]) -> None:
    """Insert whole rows through the driver: executemany for SQLite, COPY for PostgreSQL."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        driver.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
        return
    with driver.cursor().copy(f"COPY {table} FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def write_body(engine: sa.Engine, batch_id: str, body: IO[bytes]) -> None:
    """Write the JSON body of a batch."""
    with engine.connect() as connection:
        found = bodies.of_batch(connection, batch_id)
        items = (
            b'{"custom_id":"%b","params":%b}' % (custom_id.encode(), params) for custom_id, params in found
        )
        body.write(b'{"requests":[' + next(items))
        body.writelines(b"," + item for item in items)
    body.write(b"]}")


def post_batch(url: str, body: IO[bytes]) -> tuple[str, float]:
    """Post a batch's body with http.client; the new batch's id, and the seconds."""
    connection = HTTPConnection(urlsplit(url).netloc, blocksize=POST_BLOCK)
    body.seek(0, 2)
    length = str(body.tell())
    body.seek(0)
    start = time.perf_counter()
    headers = {**HEADERS, "Content-Type": "application/json", "Content-Length": length}
    connection.request("POST", "/v1/messages/batches", body, headers)
    answer = _read(connection.getresponse())
    seconds = time.perf_counter() - start
    connection.close()
    return str(msgspec.json.decode(answer)["id"]), seconds


def collect(url: str, claude_id: str, engine: sa.Engine) -> float:
    """Read the result lines, decode their custom_ids, insert them into `answers`; seconds."""
    start = time.perf_counter()
    for lines in chunked(result_lines(url, claude_id), CHUNK_LINES):
        with engine.begin() as connection:
            insert(connection, "answers", [(decode_line(line).custom_id, line) for line in lines])
    return time.perf_counter() - start


def result_lines(url: str, claude_id: str) -> Iterator[bytes]:
    """Yield the result lines of a batch, read with http.client."""
    connection = HTTPConnection(urlsplit(url).netloc)
    connection.request("GET", f"/v1/messages/batches/{claude_id}/results", headers=HEADERS)
    yield from connection.getresponse()
    connection.close()


def chunked(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield the items in lists of `size`."""
    waiting = iter(items)
    return iter(lambda: list(itertools.islice(waiting, size)), [])


def timed(act: Callable[[], object]) -> float:
    """Return the seconds that `act` takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def _pages(engine: sa.Engine, table: str, key: str) -> Iterator[list[tuple[Any, ...]]]:
    last = ""
    page = sa.text(f"SELECT * FROM {table} WHERE {key} > :last ORDER BY {key} LIMIT {CHUNK_REQUESTS}")
    while True:
        with engine.connect() as connection:
            rows = [tuple(row) for row in connection.execute(page, {"last": last})]
        if not rows:
            return
        yield rows
        last = rows[-1][0]


def _read(response: HTTPResponse) -> bytes:
    body = response.read()
    if response.status != 200:
        raise RuntimeError(f"{response.status}: {body[:300].decode()}")
    return body
