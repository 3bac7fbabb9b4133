"""A SQLite file that another process opens, makes or writes at the same moment is waited for."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from carpool_worker import engines
from carpool_worker.database import open_engine, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "carpool.db"


@pytest.fixture
def engine(path: Path) -> Iterator[sa.Engine]:
    engine = open_engine(f"sqlite:///{path}", create=True)
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

    monkeypatch.setattr("carpool_worker.engines.time.sleep", wait)

    # When the file is opened meanwhile
    with write(engine) as connection:
        [mode] = connection.exec_driver_sql("PRAGMA journal_mode").one()

    # Then it was waited for, and the write-ahead log is on
    assert waits == [engines.SQLITE_RETRY_SECONDS] * 2
    assert mode == "wal"


def test_a_writer_that_is_never_done_is_not_waited_for_without_end(
    engine: sa.Engine, writer: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a busy timeout that is over
    monkeypatch.setattr(engines, "SQLITE_BUSY_TIMEOUT", 0.0)

    # When / Then
    with pytest.raises(sa.exc.OperationalError, match="database is locked"), write(engine):
        pass


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_new_file_is_its_users_alone_with_its_log_its_shared_memory_and_its_folder(
    tmp_path: Path, umask: int
) -> None:
    # Given a shell that lets everybody read what it makes, When a database is made in a folder that is not there
    before = os.umask(umask)
    try:
        engine = open_engine(f"sqlite:///{tmp_path}/data/carpool.db", create=True)
        with write(engine) as connection:
            connection.exec_driver_sql("CREATE TABLE prompts (body)")
        made = {one.name: stat.S_IMODE(one.stat().st_mode) for one in (tmp_path / "data").iterdir()}
        folder = stat.S_IMODE((tmp_path / "data").stat().st_mode)
        engine.dispose()
    finally:
        os.umask(before)

    # Then nobody else reads it
    assert made == dict.fromkeys(["carpool.db", "carpool.db-wal", "carpool.db-shm"], 0o600)
    assert folder == 0o700


def test_a_file_that_is_there_keeps_the_mode_that_somebody_gave_it(path: Path) -> None:
    # Given a file that a group shares
    path.touch(mode=0o600)
    path.chmod(0o660)

    # When it is opened and written
    engine = open_engine(f"sqlite:///{path}")
    with write(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE prompts (body)")
    engine.dispose()

    # Then
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=ro&uri=true"])
def test_a_database_in_memory_and_a_uri_make_no_file(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    engine = open_engine(url)
    engine.dispose()
    assert list(tmp_path.iterdir()) == []
