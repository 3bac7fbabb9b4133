"""Deliveries of answers, the attempts at them, and webhook URLs that fail."""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from carpool_worker.models.columns import big, identity, number, state_checks, state_column
from carpool_worker.states import DeliveryState


class DeliveryRow(SQLModel, table=True):
    """The delivery of an answer to a callback; a request has at most one."""

    __tablename__ = "deliveries"
    __table_args__ = (
        *state_checks(
            "deliveries",
            DeliveryState,
            delivered_at=(DeliveryState.DELIVERED,),
            discarded_at=(DeliveryState.DISCARDED,),
        ),
    )

    request_id: str = Field(sa_column=identity(primary_key=True))
    channel: str
    target: str  # a URL, or a task's name
    state: DeliveryState = Field(sa_column=state_column(DeliveryState))
    attempt: int = Field(default=0)  # attempts recorded so far; a replay starts again at 0
    claims: int = Field(default=0, sa_column=number())  # the last claim's number
    # While it is `delivering`: when the claim expires.
    due_at: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))
    last_error: str | None = None
    delivered_at: int | None = Field(default=None, sa_column=big())
    discarded_at: int | None = Field(default=None, sa_column=big())


class DeliveryAttempt(SQLModel, table=True):
    """One attempt at a delivery."""

    __tablename__ = "delivery_attempts"
    __table_args__ = (sa.Index("ix_delivery_attempts_request", "request_id"),)

    id: int | None = Field(
        default=None,
        sa_column=sa.Column(sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    )
    request_id: str = Field(sa_column=identity())
    attempt: int
    at: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))
    milliseconds: int
    status: int | None = None  # HTTP's, for a webhook
    detail: str | None = None  # the error, or the start of the receiver's response


class Endpoint(SQLModel, table=True):
    """A webhook URL that fails, or is stopped until an operator starts it again."""

    __tablename__ = "endpoints"

    url: str = Field(primary_key=True)
    failing_since: int | None = Field(default=None, sa_column=big())  # no attempt has succeeded since
    stopped_at: int | None = Field(default=None, sa_column=big())
    reason: str | None = None  # why it was stopped
