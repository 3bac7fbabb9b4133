"""Bytes on disk a request, all told once it has its answer, on either database; and what the inbox holds meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import redis
import sqlalchemy as sa
from sqlmodel import SQLModel
from tests.bench.agents import Agents, Servers
from tests.bench.payloads import CORPORA
from tests.bench.rows import Row, at_most

COUNT = 40_000
AIMS = {"prose, 1.2 kB": 1_000.0, "shared 2 kB + 400 B": 700.0}
"""Bytes a request."""

DATABASE, WAL, INBOX_MEMORY, INBOX_DISK = "database", "WAL", "inbox, memory", "inbox, append-only file"
TABLE = "table "
"""Before a table's name, its indexes included, among the sizes."""


def run(engine: sa.Engine, servers: Servers, corpus: str, count: int) -> Row:
    """Take `count` requests of a corpus to their end in a database with empty tables, and look at what they left."""
    agents = Agents(engine, servers)
    before = _sizes(engine) | _inbox_sizes(servers.valkey)
    start = perf_counter()
    agents.enqueue(CORPORA[corpus](count))
    during = _inbox_sizes(servers.valkey)
    agents.finish_queued(count)
    seconds = perf_counter() - start
    agents.close()
    after = _sizes(engine) | during
    sizes = {name: (size - before[name]) / count for name, size in after.items() if size > before[name]}
    row = Row(f"disk, {corpus}", engine.dialect.name, count, seconds, sizes=sizes)
    return replace(row, aims=(at_most(sizes[DATABASE], AIMS[corpus], "B"),))


def checkpoint(engine: sa.Engine) -> None:
    """Have the database write everything to where it stays."""
    if _is_sqlite(engine):
        connection = engine.raw_connection()  # in no transaction, which a checkpoint would wait for
        connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as autocommitting:
        autocommitting.exec_driver_sql("CHECKPOINT")


def _sizes(engine: sa.Engine) -> dict[str, float]:
    if _is_sqlite(engine):
        checkpoint(engine)
        return {DATABASE: Path(str(engine.url.database)).stat().st_size}
    with engine.connect() as connection:  # a checkpoint writes to the WAL too
        wal: Any = connection.scalar(sa.text("SELECT pg_current_wal_lsn() - '0/0'"))
    checkpoint(engine)
    with engine.connect() as connection:
        whole: Any = connection.scalar(sa.text("SELECT pg_database_size(current_database())"))
        return {DATABASE: whole, WAL: float(wal), **_tables(connection)}


def _tables(connection: sa.Connection) -> Mapping[str, float]:
    size = sa.text("SELECT pg_total_relation_size(CAST(:name AS regclass))")
    names = SQLModel.metadata.tables
    return {f"{TABLE}{name}": float(connection.scalar(size, {"name": name}) or 0) for name in names}


def _inbox_sizes(valkey: redis.Redis) -> dict[str, float]:
    memory: Any = valkey.info("memory")
    persistence: Any = valkey.info("persistence")
    return {INBOX_MEMORY: memory["used_memory"], INBOX_DISK: persistence["aof_current_size"]}


def _is_sqlite(engine: sa.Engine) -> bool:
    return engine.dialect.name == "sqlite"
