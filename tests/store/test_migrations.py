"""The tables of every released version, with rows in them, are upgraded and downgraded again, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from tests.fixtures.deliveries import claim_all, members
from tests.store.revisions import AGAIN, ANSWERED, FILLING, NOW, RENAMED, ROWS, WAITING, Rows

from carpool.contract import to_json
from carpool.results import Result
from carpool_worker import migrations
from carpool_worker.database import open_engine, read, write
from carpool_worker.exceptions import DatabaseUnreleased
from carpool_worker.pipeline import pruner
from carpool_worker.pipeline.batching import stager
from carpool_worker.policies.limits import Limits
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.requests import rows as requests
from carpool_worker.store.requests.answers import load_answers


def revisions() -> list[str]:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    found = ScriptDirectory.from_config(config).walk_revisions()
    return [script.revision for script in found][::-1]


HEAD = revisions()[-1]
EARLIER = revisions()[:-1]


def test_the_newest_revision_is_the_number_of_the_newest_file() -> None:
    assert migrations._head() == HEAD


@pytest.fixture
def bare(database_url: str) -> Iterator[sa.Engine]:
    """An engine on a database without tables."""
    engine = open_engine(database_url, create=True)
    yield engine
    engine.dispose()


def tables(engine: sa.Engine) -> dict[str, sa.Table]:
    """The tables as they are, not as the models say."""
    metadata = sa.MetaData()
    metadata.reflect(engine)
    return {name: table for name, table in metadata.tables.items() if name != "alembic_version"}


def fill(engine: sa.Engine, rows: Rows) -> None:
    found = tables(engine)
    with write(engine) as connection:
        for name, some in rows.items():
            for row in some:
                connection.execute(sa.insert(found[name]).values(bound(found[name], row)))


def bound(table: sa.Table, row: dict[str, Any]) -> dict[str, Any]:
    """A row for this database, which may have a type of its own for ids."""
    return {
        name: UUID(bytes=value) if isinstance(table.c[name].type, sa.Uuid) else value
        for name, value in row.items()
    }


def contents(engine: sa.Engine) -> Rows:
    with read(engine) as connection:
        return {
            name: [
                dict(row)
                for row in connection.execute(sa.select(table).order_by(*table.primary_key)).mappings()
            ]
            for name, table in tables(engine).items()
        }


def as_in(revision: str, older: Rows, newer: Rows) -> Rows:
    """This version's rows, reduced to the tables and columns of an older revision, with the names they had in it."""
    return {
        name: [
            {column: row[newest_name(revision, name, column)] for column in older[name][0]}
            for row in newer[name]
        ]
        for name in older
    }


def newest_name(revision: str, table: str, column: str) -> str:
    for renaming in sorted(RENAMED):
        if renaming > revision:
            column = RENAMED[renaming].get(table, {}).get(column, column)
    return column


def assert_the_program_works(engine: sa.Engine, *, delivers: bool) -> None:
    with read(engine) as connection:
        result = Result.from_json(to_json(load_answers(connection, [ANSWERED], "billing")[ANSWERED]))
        waiting = requests.pending_ids(connection, FILLING, 10)
    assert (result.text, result.cost, result.metadata) == ("four", Decimal("0.5"), {"invoice": 42})
    assert waiting == [WAITING]
    with write(engine) as connection:
        claimed = [members(connection, one) for one in claim_all(connection, NOW)]
    assert claimed == ([[(0, ANSWERED)]] if delivers else [])
    stager.stage(engine, Limits(100, 1_000_000, 60))
    with read(engine) as connection:
        batch = batches.get(connection, FILLING)
        assert requests.pending_ids(connection, FILLING, 10) == [WAITING, AGAIN]
    assert batch is not None
    assert batch.request_count == 3
    pruner.prune(engine, 7, 29)


@pytest.mark.parametrize("revision", revisions())
def test_the_rows_of_a_revision_fill_all_its_columns(
    bare: sa.Engine, revision: str, database_url: str
) -> None:
    # Given / When
    migrations.upgrade(database_url, revision)
    fill(bare, ROWS[revision])

    # Then
    for name, rows in contents(bare).items():
        assert rows, f"tests/store/revisions.py has no {name} of {revision}"
        filled: Any = {column for row in rows for column, value in row.items() if value is not None}
        assert filled == set(rows[0]), f"{name} of {revision}"


@pytest.mark.parametrize("revision", revisions())
def test_a_revisions_rows_go_up_and_down_and_up_again(
    bare: sa.Engine, revision: str, database_url: str
) -> None:
    # Given a database as that version left it
    migrations.upgrade(database_url, revision)
    fill(bare, ROWS[revision])
    before = contents(bare)

    # When it goes up, Then every row and value is there
    migrations.upgrade(database_url)
    assert as_in(revision, before, contents(bare)) == before

    # When it goes back, Then it is as it was
    migrations.downgrade(database_url, revision)
    assert contents(bare) == before

    # When it goes up once more, Then this version works on it
    migrations.upgrade(database_url)
    assert as_in(revision, before, contents(bare)) == before
    assert_the_program_works(bare, delivers="deliveries" in before)


def test_this_versions_rows_go_down_but_for_what_older_tables_cant_say(
    bare: sa.Engine, database_url: str
) -> None:
    for revision in EARLIER:
        # Given
        migrations.upgrade(database_url)
        fill(bare, ROWS[HEAD])
        newer = contents(bare)

        # When
        migrations.downgrade(database_url, revision)

        # Then
        older = contents(bare)
        assert older == as_in(revision, older, newer)
        migrations.downgrade(database_url, "base")


@pytest.mark.parametrize("revision", ["0001", "0004"])
def test_a_database_from_before_the_first_release_is_refused_and_stays_as_it_is(
    bare: sa.Engine, revision: str, database_url: str
) -> None:
    # Given its tables, whose revisions had the same names or later ones
    with write(bare) as connection:
        for statement in (
            "CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)",
            f"INSERT INTO alembic_version VALUES ('{revision}')",
            "CREATE TABLE requests (id VARCHAR(32) PRIMARY KEY)",
        ):
            connection.execute(sa.text(statement))

    # When / Then
    with pytest.raises(DatabaseUnreleased, match="start with an empty database"):
        migrations.upgrade(database_url)
    with pytest.raises(DatabaseUnreleased, match=r"before 0\.1\.0"):
        migrations.check_migrated(bare)
    assert list(tables(bare)) == ["requests"]
