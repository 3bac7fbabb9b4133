"""The Alembic migrations, which create and change the tables, and the functions that run them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from carpool_worker.database import open_engine
from carpool_worker.exceptions import DatabaseNotMigrated, DatabaseUnreleased

UPGRADE_LOCK = 0x0CA2_9001
"""PostgreSQL's advisory lock that lets only one process migrate at a time."""

FIRST_TABLE = "segments"
"""A table that every released version has. Development before the first release used the same names of revisions."""


def upgrade(url: str, revision: str = "head") -> None:
    """Upgrade the tables of the database at `url` to `revision`; do nothing if they are up to date.

    Raises:
        DatabaseUnreleased: they were made before the first release.
    """
    _run(url, lambda config: command.upgrade(config, revision))


def downgrade(url: str, revision: str) -> None:
    """Downgrade the tables of the database at `url` to `revision`."""
    _run(url, lambda config: command.downgrade(config, revision))


def check_migrated(engine: sa.Engine) -> None:
    """Check that the tables are those of this version.

    Raises:
        DatabaseNotMigrated: they are older or newer.
        DatabaseUnreleased: they were made before the first release.
    """
    with engine.connect() as connection:
        found = _revision(connection)
    if found != (wanted := ScriptDirectory.from_config(_config()).get_current_head()):
        raise DatabaseNotMigrated(
            f"The database is at revision {found}, not {wanted}: run `carpool migrate`."
        )


def _run(url: str, act: Callable[[Config], None]) -> None:
    engine = open_engine(url)
    try:
        with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({UPGRADE_LOCK})"))
            _revision(connection)
            config = _config()
            config.attributes["connection"] = connection
            act(config)
    finally:
        engine.dispose()


def _revision(connection: sa.Connection) -> str | None:
    """Return the revision of the tables, or None where there are none."""
    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None and not sa.inspect(connection).has_table(FIRST_TABLE):
        raise DatabaseUnreleased
    return found


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config
