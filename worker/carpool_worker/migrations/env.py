"""Run by Alembic: always online, on the connection that migrations/__init__.py passes."""

from alembic import context
from sqlmodel import SQLModel

import carpool_worker.models  # noqa: F401  (fills SQLModel.metadata)

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
    compare_server_default=False,
    transaction_per_migration=connection.dialect.name == "postgresql",  # some must be made outside of any
)
with context.begin_transaction():
    context.run_migrations()
