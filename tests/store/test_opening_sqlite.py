"""A SQLite file that another process opens, makes or writes at the same moment is waited for."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from carpool_worker import database
from carpool_worker.database import open_engine, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "carpool.db"


@pytest.fixture
def engine(path: Path) -> Iterator[sa.Engine]:
    engine = open_engine(f"sqlite:///{path}")
    yield engine
    engine.dispose()


@pytest.fixture
def writer(path: Path) -> Iterator[sqlite3.Connection]:
    """Another process's connection, which writes the new file and has not turned on its write-ahead log."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    yield connection
    connection.close()


def test_a_new_file_that_somebody_writes_is_opened_once_they_are_done(
    engine: sa.Engine, writer: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a writer that is done after the second try; SQLite's busy timeout does not wait for it
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            writer.commit()

    monkeypatch.setattr("carpool_worker.database.time.sleep", wait)

    # When the file is opened meanwhile
    with write(engine) as connection:
        [mode] = connection.exec_driver_sql("PRAGMA journal_mode").one()

    # Then it was waited for, and the write-ahead log is on
    assert waits == [database.SQLITE_RETRY_SECONDS] * 2
    assert mode == "wal"


def test_a_writer_that_is_never_done_is_not_waited_for_without_end(
    engine: sa.Engine, writer: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a busy timeout that is over
    monkeypatch.setattr(database, "SQLITE_BUSY_TIMEOUT", 0.0)

    # When / Then
    with pytest.raises(sa.exc.OperationalError, match="database is locked"), write(engine):
        pass
