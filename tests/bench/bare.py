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
from sqlmodel import SQLModel
from tests.bench import payloads

from carpool.contract import to_json
from carpool_worker import models  # noqa: F401 - the tables in SQLModel.metadata

CHUNK = 4_000
"""Rows or lines in one transaction, as Carpool has them."""

FILLED_BY_MIGRATIONS = {"schema_support"}

POST_BLOCK = 1 << 20
ENDED_WITHIN = 120.0
"""Seconds that the simulator may take until a batch has ended."""

HEADERS = {"x-api-key": "simulated", "anthropic-version": "2023-06-01"}


BARE = sa.Table(
    "bench_lines",
    sa.MetaData(),
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
"""What collected lines are compared with."""


class Line(msgspec.Struct):
    """All that is read of a result line."""

    custom_id: str


decode_line = msgspec.json.Decoder(Line).decode


def copy_rows(source: sa.Engine, target: sa.Engine) -> float:
    """Insert the rows of all tables of `source` into `target` as they are; seconds, reading not included."""
    seconds = 0.0
    for table in SQLModel.metadata.tables.keys() - FILLED_BY_MIGRATIONS:
        for rows in pages(source, table):
            start = time.perf_counter()
            with target.begin() as connection:
                insert(connection, table, columns(table), rows)
            seconds += time.perf_counter() - start
    return seconds


def insert(
    connection: sa.Connection, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Insert rows through the driver: executemany for SQLite, COPY for PostgreSQL."""
    driver: Any = connection.connection.driver_connection
    names = ", ".join(f'"{name}"' for name in columns)
    if connection.dialect.name == "sqlite":
        places = ", ".join("?" * len(columns))
        driver.executemany(f"INSERT INTO {table} ({names}) VALUES ({places})", rows)
        return
    with driver.cursor().copy(f"COPY {table} ({names}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def write_body(params: Iterable[payloads.Params], body: IO[bytes]) -> None:
    """Write the JSON body of a batch with these requests, their custom_ids as long as Carpool's."""
    frame = b'{"requests":['
    for number, one in enumerate(params):
        body.write(b'%b{"custom_id":"%032x","params":%b}' % (frame, number, to_json(one)))
        frame = b","
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
    """Read the result lines, decode their custom_ids, insert them into a table of two columns; seconds."""
    with engine.begin() as connection:
        BARE.drop(connection, checkfirst=True)
        BARE.create(connection)
    start = time.perf_counter()
    for lines in chunked(result_lines(url, claude_id), CHUNK):
        with engine.begin() as connection:
            insert(
                connection,
                BARE.name,
                BARE.columns.keys(),
                [(decode_line(line).custom_id, line) for line in lines],
            )
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


def columns(table: str) -> list[str]:
    """Return the names of the columns, in the order of the model."""
    return [column.name for column in SQLModel.metadata.tables[table].columns]


def pages(engine: sa.Engine, table: str) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows of a table as the driver has them, in lists, by the table's primary key; see `columns`."""
    names = ", ".join(f'"{name}"' for name in columns(table))
    keys = ", ".join(column.name for column in SQLModel.metadata.tables[table].primary_key)
    with engine.connect().execution_options(yield_per=CHUNK, carpool_reads=True) as connection:
        found = connection.execute(sa.text(f"SELECT {names} FROM {table} ORDER BY {keys}"))
        for rows in found.partitions(CHUNK):
            yield [tuple(row) for row in rows]


def _read(response: HTTPResponse) -> bytes:
    body = response.read()
    if response.status != 200:
        raise RuntimeError(f"{response.status}: {body[:300].decode()}")
    return body
