"""The Alembic migrations, which create and change the tables, and the functions that run them.

Each only adds, so that workers of the version before work on beside those of the new one, and a worker starts on tables
that are newer than it is (see schema_support). What nobody uses any longer goes in a later version.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import sqlalchemy as sa

from carpool_worker.engines import open_engine
from carpool_worker.exceptions import DatabaseNewer, DatabaseNotMigrated, DatabaseUnreleased, MigrationBlocked
from carpool_worker.models.tables import schema_support
from carpool_worker.settings import settings

if TYPE_CHECKING:
    from alembic.config import Config  # 8 MB that programs which only check the tables do without

VERSIONS = Path(__file__).parent / "versions"

UPGRADE_LOCK = 0x0CA2_9001
"""PostgreSQL's advisory lock that lets only one process migrate at a time."""

LOCK_TIMEOUT = "3s"
"""How long a migration waits for a table that others use: behind it, all who want the table wait, too."""

TRIES = 30
PAUSE_SECONDS = 2.0
"""How often a migration tries to get a table, and how long it leaves it to others in between."""

VERSION = sa.table("alembic_version", sa.column("version_num"))
"""Alembic's own table: the revision of all others."""

FIRST_TABLE = "segments"
"""A table that every released version has. Development before the first release used the same names of revisions."""


def upgrade(url: str, revision: str = "head") -> None:
    """Upgrade the tables of the database at `url` to `revision`; do nothing if they are up to date, or newer.

    On PostgreSQL each migration is a transaction of its own. What is done stays done where a later one fails.

    Raises:
        DatabaseUnreleased: they were made before the first release.
        DatabaseNewer: a later version has made them, on which this one does not work.
        MigrationBlocked: another session kept a table locked all the time.
    """
    from alembic import command

    engine = open_engine(url, pooler=settings().database_pooler, create=True)  # an index may take its time
    try:
        with _alone(engine):
            _check_not_newer(engine)
            if not _is_newer(engine):
                _patiently(lambda: _run(engine, lambda config: command.upgrade(config, revision)))
    finally:
        engine.dispose()


def downgrade(url: str, revision: str) -> None:
    """Downgrade the tables of the database at `url` to `revision`."""
    from alembic import command

    engine = open_engine(url, pooler=settings().database_pooler)
    try:
        with _alone(engine):
            _patiently(lambda: _run(engine, lambda config: command.downgrade(config, revision)))
    finally:
        engine.dispose()


def check_migrated(engine: sa.Engine) -> None:
    """Check that this version works on the tables: they are its own, or newer ones that only have more.

    Raises:
        DatabaseNotMigrated: they are older.
        DatabaseNewer: they are newer, and lack something that this version needs.
        DatabaseUnreleased: they were made before the first release.
    """
    _check_not_newer(engine)
    found, wanted = _found(engine), _head()
    if found is None or found < wanted:
        raise DatabaseNotMigrated(
            f"The database is at revision {found}, not {wanted}: run `carpool migrate`."
        )


def _check_not_newer(engine: sa.Engine) -> None:
    if not _is_newer(engine):
        return
    with engine.connect() as connection:
        oldest = connection.scalar(sa.select(schema_support.c.oldest))
    if oldest is None or oldest > _head():
        raise DatabaseNewer(
            f"The database is at revision {_found(engine)}, for programs of revision {oldest} and later; this one is "
            f"of {_head()}: install a newer Carpool."
        )


def _is_newer(engine: sa.Engine) -> bool:
    found = _found(engine)
    return found is not None and found > _head()


def _found(engine: sa.Engine) -> str | None:
    """Return the revision of the tables, or None where there are none."""
    with engine.connect() as connection:
        tables = sa.inspect(connection)
        found = connection.scalar(sa.select(VERSION)) if tables.has_table(VERSION.name) else None
        if found is not None and not tables.has_table(FIRST_TABLE):
            raise DatabaseUnreleased
        return found


def _head() -> str:
    """Return the newest revision: the number that its file's name begins with."""
    return max(file.name.partition("_")[0] for file in VERSIONS.glob("[0-9]*.py"))


@contextmanager
def _alone(engine: sa.Engine) -> Iterator[None]:
    """Let no other process migrate this database meanwhile."""
    if engine.dialect.name != "postgresql":
        yield  # there a migration's transaction keeps all other writers away
        return
    # By a transaction's lock on a connection of its own, as the migrations are several, and some take none. Who waits
    # asks again and again: CREATE INDEX CONCURRENTLY would wait for a statement that waits for the lock.
    with engine.connect() as connection:
        while not _locked(connection):
            connection.rollback()
            time.sleep(PAUSE_SECONDS / 10)
        yield


def _locked(connection: sa.Connection) -> bool:
    connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
    return bool(connection.scalar(sa.text(f"SELECT pg_try_advisory_xact_lock({UPGRADE_LOCK})")))


def _patiently(run: Callable[[], None]) -> None:
    for tries_left in reversed(range(TRIES)):
        try:
            run()
        except sa.exc.OperationalError as error:
            if not isinstance(error.orig, psycopg.errors.LockNotAvailable):
                raise
            if not tries_left:
                raise MigrationBlocked from error
        else:
            return
        time.sleep(PAUSE_SECONDS)


def _run(engine: sa.Engine, act: Callable[[Config], None]) -> None:
    with engine.connect() as connection:
        config = _config()
        config.attributes["connection"] = connection
        if engine.dialect.name == "postgresql":
            sa.event.listen(connection, "begin", _be_brief)
            act(config)
        else:
            with connection.begin():
                act(config)


def _be_brief(connection: sa.Connection) -> None:
    if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        return  # an index that is made concurrently locks out nobody
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
    connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config
