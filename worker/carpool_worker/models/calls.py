"""Calls of the Messages API: single requests that are answered in real time, as their deadlines leave no time."""

from __future__ import annotations

from decimal import Decimal

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from carpool_worker.models.columns import Dollars, big, count, identity, number, state_checks, state_column
from carpool_worker.states import FINAL_CALL_STATES, CallState


class RealTimeCall(SQLModel, table=True):
    """A call for a request. There is one for each time that an operator has the request run, so none is made twice."""

    __tablename__ = "real_time_calls"
    __table_args__ = (
        *state_checks("real_time_calls", CallState, finished_at=FINAL_CALL_STATES),
        {"sqlite_with_rowid": False},
    )

    request_id: str = Field(sa_column=identity(primary_key=True))
    round: int = Field(
        sa_column=sa.Column(sa.SmallInteger, primary_key=True, autoincrement=False)
    )  # how often an operator had retried the request
    state: CallState = Field(sa_column=state_column(CallState))
    batch_id: str | None = Field(
        default=None, sa_column=identity(nullable=True)
    )  # the batch at Anthropic that has the request as well; None: none has
    client: str
    account: str = ""  # whose API key calls; "": the default one
    model: str
    lane: str
    deadline: int = Field(sa_column=count())  # when the answer should be there
    estimate: Decimal = Field(sa_column=sa.Column(Dollars, nullable=False))  # at the full price
    added: Decimal = Field(
        sa_column=sa.Column(Dollars, nullable=False, server_default="0")
    )  # to what the request had reserved from its client's budget
    queued_at: int = Field(sa_column=count())
    due_at: int = Field(default=0, sa_column=count())  # not called before then: backing off
    submissions: int = Field(
        default=0, sa_column=number()
    )  # calls so far; all but the last are known to be unmade
    caller: str | None = None  # who makes the call: a name of its own for each run
    lease_until: int | None = Field(
        default=None, sa_column=big()
    )  # the caller was alive until shortly before then
    suspected_at: int | None = Field(
        default=None, sa_column=big()
    )  # when the lease was first seen to be over
    calling_at: int | None = Field(default=None, sa_column=big())
    finished_at: int | None = Field(default=None, sa_column=big())
    claude_id: str | None = None  # of the message: msg_…
    cost: Decimal | None = Field(default=None, sa_column=sa.Column(Dollars))
    batch_cost: Decimal | None = Field(
        default=None, sa_column=sa.Column(Dollars)
    )  # of the same request in its batch, if that was answered, too, after the call
    batch_billed_at: int | None = Field(default=None, sa_column=big())  # when that was added to the ledger
    last_error: str | None = None
