"""Requests, their contents and answers, and cancel commands for requests that have not arrived."""

from __future__ import annotations

from decimal import Decimal

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from carpool_worker.models.columns import Dollars, big, number, state_checks, state_column
from carpool_worker.states import FINAL_REQUEST_STATES, RequestState


class Request(SQLModel, table=True):
    """A Messages API call and its outcome."""

    __tablename__ = "requests"
    __table_args__ = (
        *state_checks("requests", RequestState, finished_at=FINAL_REQUEST_STATES),
        sa.Index("ix_requests_batch", "batch_id"),
        {"sqlite_with_rowid": False},  # one tree to walk for a row instead of two
    )

    id: str = Field(primary_key=True, max_length=32)
    client: str
    model: str
    lane: str
    batch_id: str = Field(max_length=32)
    state: RequestState = Field(sa_column=state_column(RequestState))
    attempt: int = Field(default=1)
    outcome: str | None = None
    headers: str  # JSON: the per-batch headers
    callback: str | None = None  # JSON
    request_metadata: str | None = Field(default=None, sa_column=sa.Column("metadata", sa.Text))  # JSON
    idempotency_key: str | None = None
    params_bytes: int
    priority: int = Field(default=0, sa_column=number())
    submit_by: int | None = Field(default=None, sa_column=big())  # should be posted to Anthropic by then
    prefix: str | None = Field(default=None, max_length=16)  # the digest of its tools and system prompt
    trace: str | None = None  # W3C traceparent of the enqueue
    estimate: Decimal | None = Field(
        default=None, sa_column=sa.Column(Dollars)
    )  # reserved from its client's budget
    held_at: int | None = Field(default=None, sa_column=big())  # since when it is held, as over budget

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_read_tokens: int | None = None
    cost: Decimal | None = Field(default=None, sa_column=sa.Column(Dollars))
    list_price: Decimal | None = Field(default=None, sa_column=sa.Column(Dollars))

    enqueued_at: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))
    batched_at: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))
    retry_at: int | None = Field(default=None, sa_column=big())
    cancel_requested_at: int | None = Field(default=None, sa_column=big())  # its answer, if any, is dropped
    finished_at: int | None = Field(default=None, sa_column=big())


class Params(SQLModel, table=True):
    """The JSON of a request's params, byte for byte as the producer encoded it."""

    __tablename__ = "params"

    request_id: str = Field(primary_key=True, max_length=32)
    body: bytes


class AnswerRow(SQLModel, table=True):
    """Claude's answer: the `result` of its line, byte for byte."""

    __tablename__ = "answers"

    request_id: str = Field(primary_key=True, max_length=32)
    body: bytes


class Cancellation(SQLModel, table=True):
    """A cancel command that may have come before its request, or for all that a client enqueued until then."""

    __tablename__ = "cancellations"

    request_id: str = Field(primary_key=True, max_length=32)  # "": all of the client
    client: str = Field(primary_key=True)
    requested_at: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))
