"""The doctor on databases: real ones that are missing, unsafe or full."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
import sqlalchemy as sa
from tests.fixtures.doctor import Doctor

from carpool_worker import migrations
from carpool_worker.database import open_engine, write


def test_a_database_that_does_not_exist_is_not_created(doctor: Doctor, tmp_path: Path) -> None:
    doctor.set(CARPOOL_DATABASE_URL=f"sqlite:///{tmp_path}/elsewhere/carpool.db")

    assert doctor.finds("database", "wrong", "does not exist").mend == "carpool migrate creates it"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("url", ["postgresql://127.0.0.1:1/none", "nonsense", "oracle://host/name"])
def test_a_database_that_can_not_be_used_is_found(doctor: Doctor, url: str) -> None:
    doctor.set(CARPOOL_DATABASE_URL=url)

    assert "CARPOOL_DATABASE_URL" in doctor.finds("database", "wrong", "can't be used").mend


def test_tables_of_an_older_version_are_found(doctor: Doctor, database_url: str) -> None:
    migrations.upgrade(database_url)
    change(database_url, "UPDATE alembic_version SET version_num = '0001'")
    doctor.set(CARPOOL_DATABASE_URL=database_url)

    assert doctor.finds("database", "wrong", "at revision 0001").mend == "carpool migrate"


def test_newer_tables_are_found_where_they_lack_something(doctor: Doctor, database_url: str) -> None:
    migrations.upgrade(database_url)
    change(database_url, "UPDATE alembic_version SET version_num = '9999'")
    doctor.set(CARPOOL_DATABASE_URL=database_url)
    doctor.finds("database", "ok", "")  # they only have more

    change(database_url, "UPDATE schema_support SET oldest = '9999'")
    assert doctor.finds("database", "wrong", "at revision 9999").mend == "install a newer Carpool"


def test_tables_from_before_the_first_release_are_found(doctor: Doctor, database_url: str) -> None:
    migrations.upgrade(database_url)
    change(database_url, "DROP TABLE segments")
    doctor.set(CARPOOL_DATABASE_URL=database_url)

    assert "an empty database" in doctor.finds("database", "wrong", "can't be upgraded").mend


def change(url: str, statement: str) -> None:
    engine = open_engine(url)
    with write(engine) as connection:
        connection.execute(sa.text(statement))
    engine.dispose()


def test_a_sqlite_that_can_keep_no_log_beside_it_is_found(doctor: Doctor, tmp_path: Path) -> None:
    # Given a file that SQLite may not lock, as on some network file systems
    path = tmp_path / "carpool.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    doctor.set(CARPOOL_DATABASE_URL=f"sqlite:///file:{path}?nolock=1&uri=true")

    doctor.finds("database", "warning", "the journal mode is delete")


@pytest.mark.parametrize(("free", "verdict"), [(500_000_000, "warning"), (50_000_000, "wrong")])
def test_a_disk_that_fills_up_is_found(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, free: int, verdict: str
) -> None:
    class Usage:
        def __init__(self, *_: object) -> None:
            self.free = free

    monkeypatch.setattr("carpool_worker.doctor.databases.shutil.disk_usage", Usage)

    doctor.finds("database", verdict, "free on the disk")


@pytest.mark.parametrize(
    ("option", "verdict", "part"),
    [
        ("synchronous_commit=off", "wrong", "synchronous_commit is off"),
        ("default_transaction_isolation=serializable", "wrong", "the isolation level is serializable"),
        ("default_transaction_read_only=on", "wrong", "it is read-only"),
        ("application_name=ok", "wrong", "fsync is off"),  # as the tests' server is set
        ("application_name=ok", "ok", "PostgreSQL"),
        ("application_name=ok", "ok", "connections in use"),
    ],
)
def test_a_postgresql_whose_commits_do_not_mean_what_they_should_is_found(
    doctor: Doctor, postgres_url: str, option: str, verdict: str, part: str
) -> None:
    migrations.upgrade(postgres_url)
    name, _, value = option.partition("=")
    doctor.set(CARPOOL_DATABASE_URL=f"{postgres_url}%20-c{name}%3D{value}")

    doctor.finds("database", verdict, part)


def test_a_postgresql_that_runs_out_of_connections_is_found(
    doctor: Doctor, postgres_url: str, postgres_server: Any
) -> None:
    migrations.upgrade(postgres_url)
    doctor.set(CARPOOL_DATABASE_URL=postgres_url)
    uri = postgres_server.get_uri()
    held = [psycopg.connect(uri)]
    most = int(cast("Any", held[0].execute("SHOW max_connections").fetchone())[0])
    try:
        held += [psycopg.connect(uri) for _ in range(most - 16)]
        doctor.finds("database", "warning", "connections in use")
    finally:
        for one in held:
            one.close()
