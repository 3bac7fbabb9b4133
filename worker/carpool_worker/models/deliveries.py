"""Deliveries of answers, the attempts at them, receivers that are slow, and webhook URLs that fail."""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from carpool_worker.models.columns import big, identity, number, state_checks, state_column
from carpool_worker.states import DeliveryState

REST = -1
"""In place of a position: all answers of the segment that have no row of their own."""


class DeliveryRow(SQLModel, table=True):
    """The deliveries of a segment of answers to their callback; or, in a row of its own, that of one of them.

    All of a segment begin in one row. A request gets a row of its own once it goes another way than the others: a try
    failed and is made again, it was given up, or it is replayed.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        *state_checks(
            "deliveries",
            DeliveryState,
            delivered_at=(DeliveryState.DELIVERED,),
            discarded_at=(DeliveryState.DISCARDED,),
        ),
        sa.CheckConstraint("(position >= 0) = (request_id IS NOT NULL)", name="ck_deliveries_request"),
    )

    answer_id: int = Field(
        sa_column=sa.Column(sa.BigInteger, primary_key=True, autoincrement=False)
    )  # the segment of answers
    # While it is `delivering`: when the claim expires.
    due_at: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))
    progress_at: int | None = Field(default=None, sa_column=big())  # when `progress` was written
    delivered_at: int | None = Field(default=None, sa_column=big())
    discarded_at: int | None = Field(default=None, sa_column=big())
    claims: int = Field(default=0, sa_column=number())  # the last claim's number
    pending: int  # deliveries of this row that are not made
    delivered: int = Field(default=0, sa_column=number())  # and those that are
    position: int = Field(
        sa_column=sa.Column(sa.SmallInteger, primary_key=True, autoincrement=False)
    )  # of the one answer in its segment; REST: all that have no row of their own
    attempt: int = Field(
        default=0, sa_column=sa.Column(sa.SmallInteger, nullable=False, server_default="0")
    )  # attempts recorded so far; a replay starts again at 0
    request_id: str | None = Field(default=None, sa_column=identity(nullable=True))
    state: DeliveryState = Field(sa_column=state_column(DeliveryState))
    channel: str
    target: str  # a URL, or a task's name
    receiver: str  # the host and port, or the broker: receivers take turns, and are parked
    client: str
    progress: str | None = None  # a letter for each position, see Progress; None: all wait
    last_error: str | None = None


class ParkedReceiver(SQLModel, table=True):
    """A receiver that hangs or is slow: what is due to it is left alone for a while.

    That is a row here and not a column of its deliveries, as a receiver that hangs may have a million of them.
    """

    __tablename__ = "parked_receivers"

    receiver: str = Field(primary_key=True)
    parked_until: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))
    reason: str


class DeliveryAttempt(SQLModel, table=True):
    """One attempt at a delivery: each that failed, and those that followed it.

    A delivery that its receiver accepted at the first try has none: its row says when.
    """

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
