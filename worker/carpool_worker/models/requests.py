"""Requests, their tags, and cancel commands for requests that have not arrived."""

from __future__ import annotations

from decimal import Decimal

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from carpool_worker.models.columns import (
    Digest,
    Dollars,
    big,
    identity,
    state_checks,
    state_column,
)
from carpool_worker.states import FINAL_REQUEST_STATES, RequestState

FILLFACTOR = 40
"""Percent: PostgreSQL leaves room in each page, so that a request's end stays in its page and writes no index.

A request that has ended is a third longer, and both versions are there for a while. With 50, three in ten found no
room: they took pages and index entries of their own, so that the table was larger, not smaller.
"""


class Request(SQLModel, table=True):
    """A Messages API call and its outcome. What it shares with others of its segment is there.

    The columns are in the order in which PostgreSQL needs no padding: the widest first, those of variable length last.
    """

    __tablename__ = "requests"
    __table_args__ = (
        *state_checks("requests", RequestState, finished_at=FINAL_REQUEST_STATES),
        sa.Index("ix_requests_batch", "batch_id"),
        {
            "sqlite_with_rowid": False,  # one tree to walk for a row instead of two
            "postgresql_with": {"fillfactor": FILLFACTOR},
        },
    )

    segment_id: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))
    enqueued_at: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))
    batched_at: int | None = Field(default=None, sa_column=big())  # None: when its segment was stored
    finished_at: int | None = Field(default=None, sa_column=big())
    answer_id: int | None = Field(default=None, sa_column=big())  # the segment with its answer
    cost: Decimal | None = Field(default=None, sa_column=sa.Column(Dollars))
    list_price: Decimal | None = Field(default=None, sa_column=sa.Column(Dollars))
    params_bytes: int
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_write_tokens: int | None = None  # of an answered request: None is zero
    cache_read_tokens: int | None = None
    position: int | None = Field(
        sa_column=sa.Column(sa.SmallInteger)
    )  # of its params in the segment; None: they were erased
    answer_position: int | None = Field(default=None, sa_column=sa.Column(sa.SmallInteger))
    attempt: int = Field(default=1, sa_column=sa.Column(sa.SmallInteger, nullable=False))
    priority: int = Field(default=0, sa_column=sa.Column(sa.SmallInteger, nullable=False, server_default="0"))
    id: str = Field(sa_column=identity(primary_key=True))
    batch_id: str = Field(sa_column=identity())
    client: str  # of its segment, too; here so that budgets and searches by client need no join
    state: RequestState = Field(sa_column=state_column(RequestState))
    outcome: str | None = None

    # What few requests have.
    prefix: str | None = Field(default=None, sa_column=sa.Column(Digest))  # of its tools and system prompt
    submit_by: int | None = Field(default=None, sa_column=big())  # should be posted to Anthropic by then
    deadline: int | None = Field(
        default=None, sa_column=big()
    )  # when its answer should be there; of a client's batch, when it expires
    deadline_policy: str | None = None  # what that may cost; None: it may be called at once
    estimate: Decimal | None = Field(
        default=None, sa_column=sa.Column(Dollars)
    )  # reserved from its client's budget
    held_at: int | None = Field(default=None, sa_column=big())  # since when it is held, as over budget
    retry_at: int | None = Field(default=None, sa_column=big())
    cancel_requested_at: int | None = Field(default=None, sa_column=big())  # its answer, if any, is dropped
    error: str | None = None  # the type of the error that it failed with
    request_metadata: str | None = Field(default=None, sa_column=sa.Column("metadata", sa.Text))  # JSON
    idempotency_key: str | None = None
    params_digest: bytes | None = None  # of a request with a key: SHA-256, the first 16 bytes
    trace: str | None = None  # W3C traceparent of the enqueue
    retries: int | None = Field(
        default=None, sa_column=sa.Column(sa.SmallInteger)
    )  # how often an operator has had it run again after its end; None: never
    client_batch: str | None = None  # the id of the batch that its client made, at the gateway
    custom_id: str | None = None  # its client's name for it in that batch


class Tag(SQLModel, table=True):
    """A short text that a client declared for a request, so that people find it."""

    __tablename__ = "tags"
    __table_args__ = (
        sa.Index("ix_tags_request", "request_id"),
        {"sqlite_with_rowid": False},
    )

    client: str = Field(primary_key=True)
    tag: str = Field(primary_key=True)
    request_id: str = Field(sa_column=identity(primary_key=True))


class Cancellation(SQLModel, table=True):
    """A cancel command that may have come before its request, or for all that a client enqueued until then."""

    __tablename__ = "cancellations"

    request_id: str = Field(primary_key=True, max_length=32)  # "": all of the client
    client: str = Field(primary_key=True)
    requested_at: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))
