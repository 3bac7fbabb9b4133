"""Steps of migrations that let everybody work on while they take their time, on tables of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from alembic import op


def create_index(name: str, table: str, columns: Sequence[str], where: str | None = None) -> None:
    """Create an index while others write to the table.

    On PostgreSQL that is done outside of a transaction, so a migration does it last: one that is interrupted begins
    here again. What an attempt left unfinished is dropped first.
    """
    condition = None if where is None else sa.text(where)
    if op.get_bind().dialect.name != "postgresql":
        op.create_index(name, table, columns, sqlite_where=condition)
        return
    with op.get_context().autocommit_block():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        op.create_index(name, table, columns, postgresql_where=condition, postgresql_concurrently=True)


def set_storage(table: str, parameters: Mapping[str, str | None]) -> None:
    """Set PostgreSQL's storage parameters of a table; None: what the server's settings say. It locks out no one."""
    if op.get_bind().dialect.name != "postgresql":
        return
    if given := ", ".join(f"{name} = {value}" for name, value in parameters.items() if value is not None):
        op.execute(f"ALTER TABLE {table} SET ({given})")
    if unset := ", ".join(name for name, value in parameters.items() if value is None):
        op.execute(f"ALTER TABLE {table} RESET ({unset})")
