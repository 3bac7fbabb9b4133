"""Batches that clients make at the gateway. Their requests share the batches at Anthropic with everybody's."""

from __future__ import annotations

from decimal import Decimal

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from carpool_worker.models.columns import Dollars, big, count, identity, number


class ClientBatch(SQLModel, table=True):
    """A batch of a client's: what it says to its client, and its requests by how they ended.

    The counts are moved by the transactions in which requests end or are retried (store/client_batches/counts.py): an
    index of requests by batch and state would have each ending write all indexes. Nor is there an index of requests by
    client batch: `segments` leads to them.
    """

    __tablename__ = "client_batches"
    __table_args__ = (
        sa.Index("ix_client_batches_client", "client", "id"),
        sa.CheckConstraint(
            "processing + succeeded + errored + canceled + expired = request_count",
            name="ck_client_batches_counts",
        ),
        sa.CheckConstraint("(processing = 0) = (ended_at IS NOT NULL)", name="ck_client_batches_ended"),
    )

    id: str = Field(
        sa_column=identity(primary_key=True)
    )  # shown as msgbatch_01…, see policies/client_batches.py
    created_at: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))
    expires_at: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))
    cancel_initiated_at: int | None = Field(default=None, sa_column=big())
    ended_at: int | None = Field(default=None, sa_column=big())
    lapsed_at: int | None = Field(
        default=None, sa_column=big()
    )  # when those of its requests that had not ended by `expires_at` were told to
    archived_at: int | None = Field(default=None, sa_column=big())  # from then on it has no results
    cost: Decimal = Field(
        default=Decimal(0), sa_column=sa.Column(Dollars, nullable=False, server_default="0")
    )
    list_price: Decimal = Field(
        default=Decimal(0), sa_column=sa.Column(Dollars, nullable=False, server_default="0")
    )
    request_count: int = Field(default=0, sa_column=count())
    processing: int = Field(default=0, sa_column=number())
    succeeded: int = Field(default=0, sa_column=number())
    errored: int = Field(default=0, sa_column=number())
    canceled: int = Field(default=0, sa_column=number())
    expired: int = Field(default=0, sa_column=number())
    ends: int = Field(default=0, sa_column=number())  # how often it ended: again after `carpool retry`
    is_retry: bool = Field(
        default=False, sa_column=sa.Column(sa.Boolean, nullable=False, server_default=sa.false())
    )  # of a create whose answer its client did not get
    client: str
    gateway_key: str | None = None
    digest: bytes  # SHA-256 of the create: its headers that count, and its body; b"" once it is purged
    idempotency_key: str | None = None
    callback: str | None = None  # JSON; told once that the batch has ended
    origin: str | None = None  # how URLs of the gateway begin, as its creator sees it
    segments: bytes = b""  # the ids of the segments with its requests, in their order, 8 bytes each
