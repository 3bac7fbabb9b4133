"""The audit log: what people did on the console."""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from carpool_worker.models.columns import identity


class AuditEntry(SQLModel, table=True):
    """Something that somebody did: written before it is done, and again when it is. It is kept forever."""

    __tablename__ = "audit_log"
    __table_args__ = (sa.Index("ix_audit_log_client", "client", "id"),)

    id: str = Field(sa_column=identity(primary_key=True))  # UUIDv7: in the order of time
    at: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))
    actor: str  # "key ops", "password", "anna (password)"
    action: str  # one word, such as retry
    what: str  # what it was done to; never contents
    details: str = "{}"  # JSON
    client: str | None = None  # of a tenant who did it
    outcome: str = "begun"  # begun, done or failed; begun for long: the console was killed meanwhile
    error: str | None = None  # why it failed, a sentence
