"""A worker starts on tables that only have more than it knows, and says what to do about others."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from carpool_worker import migrations
from carpool_worker.database import open_engine
from carpool_worker.doctor import databases
from carpool_worker.exceptions import DatabaseNewer, DatabaseNotMigrated, MigrationBlocked

LATER = "9000"


@pytest.fixture
def upgraded(database_url: str) -> Iterator[sa.Engine]:
    """A database whose tables the migrations have made, guards of the tests not included."""
    migrations.upgrade(database_url)
    engine = open_engine(database_url)
    yield engine
    engine.dispose()


def change(engine: sa.Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def revision(engine: sa.Engine) -> str:
    with engine.connect() as connection:
        return str(connection.scalar(sa.text("SELECT version_num FROM alembic_version")))


def test_it_starts_on_a_later_versions_tables_that_only_have_more(
    upgraded: sa.Engine, database_url: str
) -> None:
    # Given
    later = f"UPDATE alembic_version SET version_num = '{LATER}'"
    change(upgraded, later, "ALTER TABLE batches ADD COLUMN colour TEXT", "CREATE TABLE colours (name TEXT)")

    # When / Then: it starts, and an older `carpool migrate` leaves them as they are
    migrations.check_migrated(upgraded)
    migrations.upgrade(database_url)
    assert revision(upgraded) == LATER
    found = databases.opened(database_url)
    assert isinstance(found, sa.Engine)
    found.dispose()


@pytest.mark.parametrize(
    "support", ["UPDATE schema_support SET oldest = '8999'", "DELETE FROM schema_support"]
)
def test_it_refuses_those_that_lack_what_it_needs(
    upgraded: sa.Engine, database_url: str, support: str
) -> None:
    change(upgraded, f"UPDATE alembic_version SET version_num = '{LATER}'", support)

    with pytest.raises(DatabaseNewer, match="install a newer Carpool"):
        migrations.check_migrated(upgraded)
    with pytest.raises(DatabaseNewer, match="install a newer Carpool"):
        migrations.upgrade(database_url)
    finding = databases.opened(database_url)
    assert not isinstance(finding, sa.Engine)
    assert LATER in str(finding)
    assert "install a newer Carpool" in str(finding)
    assert revision(upgraded) == LATER


def test_it_refuses_older_tables_and_names_the_command(upgraded: sa.Engine, database_url: str) -> None:
    migrations.downgrade(database_url, "0002")

    with pytest.raises(DatabaseNotMigrated, match=r"at revision 0002, not .*: run `carpool migrate`"):
        migrations.check_migrated(upgraded)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_migration_gives_way_to_whoever_uses_a_table_and_gets_it_later(
    upgraded: sa.Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given tables of an older version, and a session that keeps one of them locked
    migrations.downgrade(database_url, "0007")
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT", "30ms")
    monkeypatch.setattr(migrations, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(migrations, "TRIES", 3)
    with upgraded.begin() as connection:
        connection.execute(sa.text("LOCK TABLE batches IN SHARE MODE"))

        # When / Then it gives up, and what it has not finished is not there
        with pytest.raises(MigrationBlocked):
            migrations.upgrade(database_url)
        assert revision(upgraded) == "0007"

        # When the session ends while it tries
        monkeypatch.setattr(migrations, "TRIES", 1_000)
        upgrading = threading.Thread(target=migrations.upgrade, args=(database_url,))
        upgrading.start()
    upgrading.join(30)

    # Then it gets the table
    migrations.check_migrated(upgraded)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_an_index_that_was_left_unfinished_is_made_anew(upgraded: sa.Engine, database_url: str) -> None:
    # Given an index that is invalid, as CREATE INDEX CONCURRENTLY leaves one that is interrupted
    migrations.downgrade(database_url, "0007")
    change(
        upgraded,
        "CREATE INDEX ix_batches_marked ON batches (lane)",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_batches_marked'::regclass",
    )

    # When
    migrations.upgrade(database_url)

    # Then
    with upgraded.connect() as connection:
        valid = "SELECT indisvalid, indnatts FROM pg_index WHERE indexrelid = 'ix_batches_marked'::regclass"
        assert connection.execute(sa.text(valid)).one() == (True, 2)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_large_tables_are_vacuumed_before_a_fifth_of_them_is_dead(upgraded: sa.Engine) -> None:
    query = "SELECT relname FROM pg_class WHERE 'autovacuum_vacuum_scale_factor=0.01' = ANY(reloptions)"
    with upgraded.connect() as connection:
        found = set(connection.scalars(sa.text(f"{query} AND relnamespace = current_schema()::regnamespace")))
        toast = connection.scalars(
            sa.text(query.replace("relname", "reltoastrelid", 0) + " AND relkind = 't'")
        )
        assert toast.all()
    assert {"batches", "requests", "segments", "params", "answers", "deliveries"} <= found
