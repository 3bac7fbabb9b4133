"""Examines the database: its tables, and whether what is committed is durable."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError

from carpool_worker.database import open_engine, read
from carpool_worker.doctor.findings import Finding, ok, warning, wrong
from carpool_worker.exceptions import DatabaseNewer, DatabaseNotMigrated, DatabaseUnreleased
from carpool_worker.formatting import size
from carpool_worker.migrations import check_migrated
from carpool_worker.store.reports import doctor

CHECK = "database"

MENDS = {
    DatabaseUnreleased: "name an empty database in CARPOOL_DATABASE_URL",
    DatabaseNewer: "install a newer Carpool",
}
"""What to do about tables that `carpool migrate` does not change."""

OLDEST_POSTGRES = 140_000
"""server_version_num of the oldest release that is still supported (November 2026)."""

FREE_CONNECTIONS = 15
"""Connections that a busy process of the worker may open."""

LITTLE_DISK = 1_000_000_000
NO_DISK = 100_000_000
"""Free bytes: below the first, act soon; below the second, a batch's answers may not fit."""

FULL_SYNC = 2
"""SQLite's number for `synchronous = FULL`; higher ones are safe too."""


def opened(url: str) -> sa.Engine | Finding:
    """Return an engine whose database answers and has its tables, or what is wrong; never creates a SQLite file."""
    try:
        if missing := _missing_file(sa.make_url(url)):
            return wrong(CHECK, f"{missing} does not exist", "carpool migrate creates it")
        engine = open_engine(url)
    except (ArgumentError, ModuleNotFoundError, OSError) as error:
        return _unusable(error)
    return _refused(engine) or engine


def _refused(engine: sa.Engine) -> Finding | None:
    try:
        check_migrated(engine)
    except DatabaseNotMigrated as error:
        what, _, _ = str(error).partition(": ")
        mend = next((mend for kind, mend in MENDS.items() if isinstance(error, kind)), "carpool migrate")
        refusal = wrong(CHECK, what, mend)
    except (DBAPIError, ModuleNotFoundError) as error:
        refusal = _unusable(error)
    else:
        return None
    engine.dispose()
    return refusal


def _unusable(error: Exception) -> Finding:
    reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    return wrong(CHECK, f"can't be used: {reason}", "start it, or correct CARPOOL_DATABASE_URL")


def examine(engine: sa.Engine) -> Iterator[Finding]:
    """Examine a database that answers."""
    with read(engine) as connection:
        if engine.dialect.name == "postgresql":
            yield from judge_postgres(doctor.postgres_settings(connection))
            return
        journal = str(doctor.sqlite_pragma(connection, "journal_mode"))
        synchronous = int(doctor.sqlite_pragma(connection, "synchronous"))
    yield from judge_sqlite(journal, synchronous)
    if (path := engine.url.database) and Path(path).is_file():
        yield judge_disk(shutil.disk_usage(Path(path).parent).free, Path(path).stat().st_size)


def judge_postgres(settings: Mapping[str, str]) -> Iterator[Finding]:
    """Judge a PostgreSQL database by its settings."""
    version = f"PostgreSQL {settings['server_version']}"
    if int(settings["server_version_num"]) < OLDEST_POSTGRES:
        yield warning(CHECK, f"{version} is no longer supported", "upgrade to 14 or newer")
    else:
        yield ok(CHECK, f"{version}, with the tables of this version")
    if settings["transaction_read_only"] == "on":
        yield wrong(CHECK, "it is read-only", "name the primary in CARPOOL_DATABASE_URL")
    if (isolation := settings["transaction_isolation"]) != "read committed":
        what = f"the isolation level is {isolation}: concurrent workers fail instead of waiting"
        yield wrong(CHECK, what, "set default_transaction_isolation to 'read committed' for this user")
    for name in ("fsync", "synchronous_commit"):
        if settings[name] == "off":
            what = f"{name} is off: a crash loses what was committed, which is then paid twice"
            yield wrong(CHECK, what, f"set {name} = on")
    yield _connections(settings)


def judge_sqlite(journal: str, synchronous: int) -> Iterator[Finding]:
    """Judge a SQLite database by its settings."""
    if journal != "wal":
        what = f"the journal mode is {journal}: readers and writers block each other"
        yield warning(CHECK, what, "put the file on a local disk; the URL must not forbid a write-ahead log")
    if synchronous < FULL_SYNC:
        yield wrong(CHECK, "synchronous is not FULL: a power cut loses commits", "remove it from the URL")
    elif journal == "wal":
        yield ok(CHECK, "SQLite, with the tables of this version, a write-ahead log and full synchronisation")


def judge_disk(free: int, file: int) -> Finding:
    """Judge the room on the disk; both in bytes: what is free, and the SQLite file."""
    what = f"{size(free)} free on the disk; the file takes {size(file)}"
    mend = "make room, or shorten params_retention_days and answers_retention_days"
    if free < NO_DISK:
        return wrong(CHECK, what, mend)
    return warning(CHECK, what, mend) if free < LITTLE_DISK else ok(CHECK, what)


def _connections(settings: Mapping[str, str]) -> Finding:
    most = int(settings["max_connections"]) - int(settings["superuser_reserved_connections"])
    what = f"{int(settings['connections']):,} of {most:,} connections in use"
    if most - int(settings["connections"]) < FREE_CONNECTIONS:
        return warning(CHECK, what, "raise max_connections, or run fewer processes")
    return ok(CHECK, what)


def _missing_file(url: sa.URL) -> str | None:
    if url.get_backend_name() != "sqlite" or not url.database or url.database.startswith("file:"):
        return None
    return None if Path(url.database).is_file() else url.database
