"""Migrations make what the models say, and the database refuses nonsense."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex
from sqlmodel import SQLModel

from carpool_worker import migrations
from carpool_worker.database import open_engine, read, write
from carpool_worker.exceptions import DatabaseNotMigrated
from carpool_worker.models import Batch, DeliveryRow, Request
from carpool_worker.models.columns import Id
from carpool_worker.store.batches import filling, in_doubt, transitions
from carpool_worker.store.batches import queue as batch_queue
from carpool_worker.store.batches import rows as batches
from carpool_worker.units import Milliseconds

HEAD: dict[str, Any] = {
    "id": "b" * 32,
    "lane": "m",
    "model": "m",
    "headers": "{}",
    "opened_at": 1,
} | filling.FRESH
REQUEST = {
    "id": "a" * 32,
    "client": "c",
    "segment_id": 1,
    "batch_id": "b" * 32,
    "params_bytes": 2,
    "enqueued_at": 1,
}
DELIVERY = {"request_id": "a" * 32, "channel": "webhook", "target": "t", "attempt": 0, "due_at": 1}


def insert(engine: sa.Engine, model: Any, row: dict[str, Any]) -> None:
    # Past SQLAlchemy's own check of enums: it is the database that is asked.
    names = ", ".join(row)
    ids = {name for name, column in model.__table__.c.items() if isinstance(column.type, Id)}
    id_of = "id_of" if engine.dialect.name == "sqlite" else ""
    marks = ", ".join(f"{id_of}(:{name})" if name in ids else f":{name}" for name in row)
    with write(engine) as connection:
        connection.execute(sa.text(f"INSERT INTO {model.__tablename__} ({names}) VALUES ({marks})"), row)


def test_the_migrations_make_what_the_models_say(database_url: str) -> None:
    migrations.upgrade(database_url)

    engine = open_engine(database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []
    engine.dispose()


def test_the_partial_indexes_have_the_conditions_that_queries_use(engine: sa.Engine) -> None:
    def words(statement: str) -> list[str]:
        return re.findall(r"[a-z_]+", statement.lower().replace('"', ""))

    declared = {
        str(index.name): words(str(CreateIndex(index).compile(dialect=sqlite.dialect())))
        for table in SQLModel.metadata.tables.values()
        for index in table.indexes
        if index.dialect_options["sqlite"]["where"] is not None
    }
    with read(engine) as connection:
        if engine.dialect.name == "sqlite":
            made = connection.execute(sa.text("SELECT name, sql FROM sqlite_master WHERE type = 'index'"))
            found = {name: words(sql) for name, sql in made if name in declared}
            assert found == declared
        else:
            made = connection.execute(sa.text("SELECT indexname, indexdef FROM pg_indexes"))
            partial = {name for name, definition in made if " WHERE " in definition}
            assert partial & {*declared} == {*declared}
    assert len(declared) == 24


def test_the_migrations_make_the_checks_of_the_models(engine: sa.Engine, tmp_path: Any) -> None:
    declared = {
        (table.name, str(check.name))
        for table in SQLModel.metadata.tables.values()
        for check in table.constraints
        if isinstance(check, sa.CheckConstraint)
    }
    inspector = sa.inspect(engine)
    made = {
        (table, check["name"])
        for table in inspector.get_table_names()
        for check in inspector.get_check_constraints(table)
    }
    assert made == declared


def test_upgrading_twice_at_once_and_again_changes_nothing(database_url: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(migrations.upgrade, [database_url] * 2))
    migrations.upgrade(database_url)

    engine = open_engine(database_url)
    migrations.check_migrated(engine)
    engine.dispose()


def test_the_tables_go_and_come_again(database_url: str) -> None:
    migrations.upgrade(database_url)
    engine = open_engine(database_url)
    insert(engine, Batch, HEAD | {"state": "open"})

    migrations.downgrade(database_url, "base")
    assert set(sa.inspect(engine).get_table_names()) <= {"alembic_version"}
    with pytest.raises(DatabaseNotMigrated, match="carpool migrate"):
        migrations.check_migrated(engine)
    migrations.upgrade(database_url)

    insert(engine, Batch, HEAD | {"state": "open"})
    engine.dispose()


@pytest.mark.parametrize(
    ("model", "row"),
    [
        pytest.param(Batch, HEAD | {"state": "lost"}, id="a batch in no state"),
        pytest.param(Batch, HEAD | {"state": "OPEN"}, id="a state by its member's name"),
        pytest.param(Batch, HEAD | {"state": "completed"}, id="completed at no time"),
        pytest.param(Batch, HEAD | {"state": "open", "finished_at": 1}, id="open but finished"),
        pytest.param(Request, REQUEST | {"state": "ended", "attempt": 1}, id="a request in no state"),
        pytest.param(Request, REQUEST | {"state": "discarded", "attempt": 1}, id="discarded at no time"),
        pytest.param(
            Request, REQUEST | {"state": "batched", "attempt": 1, "finished_at": 1}, id="batched but finished"
        ),
        pytest.param(DeliveryRow, DELIVERY | {"state": "sent"}, id="a delivery in no state"),
        pytest.param(DeliveryRow, DELIVERY | {"state": "delivered"}, id="delivered at no time"),
        pytest.param(
            DeliveryRow, DELIVERY | {"state": "available", "discarded_at": 1}, id="available but discarded"
        ),
    ],
)
def test_the_database_refuses_nonsense(engine: sa.Engine, model: Any, row: dict[str, Any]) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        insert(engine, model, row)


def test_a_lane_has_one_open_batch_and_anthropics_id_one_owner(engine: sa.Engine) -> None:
    insert(engine, Batch, HEAD | {"state": "open", "claude_id": "msgbatch_1"})

    with pytest.raises(sa.exc.IntegrityError):
        insert(engine, Batch, HEAD | {"state": "open", "id": "c" * 32})
    with pytest.raises(sa.exc.IntegrityError):
        insert(engine, Batch, HEAD | {"state": "sealed", "id": "c" * 32, "claude_id": "msgbatch_1"})
    insert(engine, Batch, HEAD | {"state": "sealed", "id": "c" * 32})


def test_a_batch_moves_once_however_many_try(engine: sa.Engine) -> None:
    insert(engine, Batch, HEAD | {"state": "open"})

    def seal(_: int) -> bool:
        with write(engine) as connection:
            return transitions.seal(connection, HEAD["id"], Milliseconds(2))

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(seal, range(4))) == [False, False, False, True]


def test_a_post_that_was_followed_by_another_moves_nothing(engine: sa.Engine) -> None:
    insert(engine, Batch, HEAD | {"state": "submitting", "submissions": 2})

    with write(engine) as connection:
        assert not transitions.postpone(connection, HEAD["id"], 1, error="")
        assert in_doubt.undecided(connection, HEAD["id"], 1) is None
        assert transitions.postpone(connection, HEAD["id"], 2, error="")
        assert in_doubt.undecided(connection, HEAD["id"], 2) is None


def test_what_is_due_comes_oldest_first_and_what_waits_does_not(engine: sa.Engine) -> None:
    for n, (opened, due) in enumerate([(3, 0), (1, 0), (2, 99)]):
        changed = {"state": "sealed", "id": f"{n:032x}", "lane": f"{n}", "opened_at": opened, "due_at": due}
        insert(engine, Batch, HEAD | changed)

    with read(engine) as connection:
        assert [one.id for one in batch_queue.ready(connection, 98)] == [f"{n:032x}" for n in (1, 0)]
        assert [one.id for one in batch_queue.ready(connection, 99)] == [f"{n:032x}" for n in (1, 2, 0)]
        assert batches.due_to_collect(connection, Milliseconds(99)) == []


def test_a_failed_statement_shows_no_content(engine: sa.Engine) -> None:
    with pytest.raises(sa.exc.IntegrityError) as refused:
        insert(engine, Request, REQUEST | {"state": "no", "attempt": 1, "metadata": "SECRET"})

    assert "SECRET" not in f"{refused.value} {refused.value.__cause__}"
