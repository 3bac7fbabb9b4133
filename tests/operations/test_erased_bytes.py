"""What is erased can't be read in any file of a server: Zstandard frames in them are unpacked, wherever they begin.

Out of reach, as docs/operations.md says: PostgreSQL's write-ahead log, backups and replicas. What `carpool purge` does
with the files of SQLite and of Redis is in test_purge.py.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlmodel import SQLModel
from tests.fixtures.content import files_that_say, frames, says
from tests.fixtures.retention import given_delivery, row
from tests.fixtures.segments import insert_requests
from tests.papers.fences import text_of

from carpool.segments import pack
from carpool_worker.database import open_engine, psycopg_connection, read, write
from carpool_worker.operations import purge
from carpool_worker.states import DeliveryState
from carpool_worker.store import erasure

MARKS = {"billing": "MARK-of-billing", "books": "MARK-of-books"}
SMALL, LARGE = 100, 20_000
"""Bytes that don't compress: in a row, or in chunks of a table of their own (PostgreSQL's TOAST)."""

VACUUM = re.findall(r"`(VACUUM [^`]+)`", text_of("docs/operations.md"))


def given_contents(engine: sa.Engine) -> None:
    """Both clients' requests, answered and delivered, some in small segments and one in a large one."""
    for number, (client, mark) in enumerate(MARKS.items()):
        for size in (SMALL, LARGE):
            members = [
                row(one, 1, id=f"{number:016x}{size + one:016x}", client=client, metadata=f'"{mark}"')
                for one in range(3)
            ]
            bodies = {one["id"]: f'"{mark} {os.urandom(size).hex()}"'.encode() for one in members}
            with write(engine) as connection:
                insert_requests(connection, members, bodies, bodies)
            given_delivery(engine, members[0]["id"], DeliveryState.DELIVERED)


def erase(engine: sa.Engine, client: str) -> None:
    purge._erase(engine, client, purge.Purged(), lambda _: None)


def dumped(engine: sa.Engine) -> dict[str, bytes]:
    """All tables, each as COPY writes it, or as SQLite has its values."""
    with read(engine) as connection:
        return {name: _dump(connection, name) for name in SQLModel.metadata.tables}


def _dump(connection: sa.Connection, table: str) -> bytes:
    if connection.dialect.name == "sqlite":
        values = (value for found in connection.execute(sa.text(f"SELECT * FROM {table}")) for value in found)
        return b"\n".join(one if isinstance(one, bytes) else str(one).encode() for one in values)
    with (
        psycopg_connection(connection) as driver,
        driver.cursor().copy(f"COPY {table} TO STDOUT (FORMAT BINARY)") as copy,
    ):
        return b"".join(map(bytes, copy))


def tables_that_say(engine: sa.Engine, mark: str) -> list[str]:
    return sorted(name for name, dump in dumped(engine).items() if says(dump, mark))


def test_frames_are_found_wherever_they_begin() -> None:
    segment = pack([b"one", b"MARK-" + b"x" * 10_000])

    assert not says(segment[:20], "MARK-")
    assert says(b"(\xb5/\xfd!" + segment + b"?" + segment, "MARK-")
    assert len(list(frames(segment + segment))) == 2


def test_a_dump_of_all_tables_says_nothing_of_a_purged_client(engine: sa.Engine) -> None:
    # Given
    given_contents(engine)
    theirs, others = MARKS.values()
    assert tables_that_say(engine, theirs) == ["answers", "params", "requests"]

    # When
    erase(engine, "billing")

    # Then
    assert tables_that_say(engine, theirs) == []
    assert tables_that_say(engine, others) == ["answers", "params", "requests"]


def test_a_dump_says_nothing_of_a_purged_request_and_all_that_the_others_of_its_segment_said(
    engine: sa.Engine,
) -> None:
    # Given two requests in one segment
    members = [row(number, 1, metadata=f'"MARK-{number}"') for number in (1, 2)]
    bodies = {one["id"]: b'"MARK-%d"' % number for number, one in enumerate(members, start=1)}
    with write(engine) as connection:
        insert_requests(connection, members, bodies, bodies)

    # When
    with write(engine) as connection:
        erasure.erase_request(connection, members[0]["id"])

    # Then
    assert tables_that_say(engine, "MARK-1") == []
    assert tables_that_say(engine, "MARK-2") == ["answers", "params", "requests"]


def test_sqlites_file_says_nothing_once_it_is_scrubbed(
    careless_sqlite: None, sqlite_url: str, migrated: Any, tmp_path: Path
) -> None:
    # Given
    migrated(sqlite_url)
    engine = open_engine(sqlite_url)
    given_contents(engine)
    theirs, others = MARKS.values()
    assert files_that_say(tmp_path, "carpool.db*", theirs)
    assert any(theirs.encode() in content for content in frames((tmp_path / "carpool.db-wal").read_bytes()))

    # When
    erase(engine, "billing")
    left = files_that_say(tmp_path, "carpool.db*", theirs)
    assert erasure.scrub(engine)

    # Then
    assert left
    assert files_that_say(tmp_path, "carpool.db*", theirs) == []
    assert files_that_say(tmp_path, "carpool.db*", others) == ["carpool.db"]
    engine.dispose()


def test_postgresqls_files_say_nothing_after_the_documented_vacuum(
    postgres_server: Any, postgres_url: str, migrated: Any
) -> None:
    # Given contents in the tables, and in the planner's statistics of them
    migrated(postgres_url)
    engine = open_engine(postgres_url)
    given_contents(engine)
    theirs, others = MARKS.values()
    base = Path(postgres_server.pgdata) / "base"
    run(postgres_url, "ANALYZE", "CHECKPOINT")
    assert files_that_say(base, "**/*", theirs)

    # When
    erase(engine, "billing")
    run(postgres_url, "CHECKPOINT")
    left = files_that_say(base, "**/*", theirs)
    run(postgres_url, *VACUUM, "CHECKPOINT")

    # Then
    assert left
    assert files_that_say(base, "**/*", theirs) == []
    assert files_that_say(base, "**/*", others)
    engine.dispose()


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)
