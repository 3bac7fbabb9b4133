"""The tables. Times are milliseconds since the epoch, money is exact (see Dollars), contents are bytes as they came.

`requests` is hot and narrow; what a request says and what Claude answered stand apart in `params` and `answers`,
so that both can be pruned alone. The bulk tables have no foreign keys: rows arrive by the ten thousand in one
transaction with the batch they belong to, and a check for each would cost a fifth of the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from carpool_worker.costs import DOLLAR
from carpool_worker.states import (
    FINAL_REQUEST_STATES,
    FINISHED_BATCH_STATES,
    BatchState,
    DeliveryState,
    RequestState,
)


class Dollars(sa.types.TypeDecorator[Decimal]):
    """Decimal dollars, stored as an integer number of picodollars: exact on every database, and sums stay exact."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: sa.Dialect) -> int | None:
        """Store dollars."""
        return None if value is None else int(value * DOLLAR)

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> Decimal | None:
        """Load dollars."""
        return None if value is None else Decimal(value) / DOLLAR


def state_column(states: type[StrEnum]) -> Any:
    """Return a column that stores a state's value (not its member's name)."""
    kind = sa.Enum(
        states,
        values_callable=lambda members: [member.value for member in members],
        native_enum=False,
        length=16,
    )
    return sa.Column("state", kind, nullable=False)


def state_checks(
    table: str, states: type[StrEnum], **finished: Sequence[StrEnum]
) -> list[sa.CheckConstraint]:
    """Let no other state in, and tie final states to their timestamp: neither is there without the other.

    `finished` names the timestamps' columns. The states are compared one by one, as SQLite builds the list of an IN
    anew for every row that it writes.
    """
    checks = [sa.CheckConstraint(_one_of(list(states)), name=f"ck_{table}_state")]
    for column, final in finished.items():
        check = f"({_one_of(final)}) = ({column} IS NOT NULL)"
        checks.append(sa.CheckConstraint(check, name=f"ck_{table}_{column}"))
    return checks


def _one_of(states: Sequence[StrEnum]) -> str:
    return " OR ".join(f"state = '{state.value}'" for state in states)


def big() -> Any:
    """Return a nullable 64-bit integer column."""
    return sa.Column(sa.BigInteger)


def count() -> Any:
    """Return a 64-bit counter that starts at zero."""
    return sa.Column(sa.BigInteger, nullable=False, server_default="0")


def number() -> Any:
    """Return an integer column that is zero unless said otherwise."""
    return sa.Column(sa.Integer, nullable=False, server_default="0")


class Batch(SQLModel, table=True):
    """One Message Batch, from its first request on."""

    __tablename__ = "batches"
    __table_args__ = (
        *state_checks("batches", BatchState, finished_at=FINISHED_BATCH_STATES),
        sa.Index(
            "uq_batches_open_lane",
            "lane",
            unique=True,
            sqlite_where=sa.text("state = 'open'"),
            postgresql_where=sa.text("state = 'open'"),
        ),
        sa.Index(
            "ix_batches_unfinished",
            "state",
            sqlite_where=sa.text("finished_at IS NULL"),
            postgresql_where=sa.text("finished_at IS NULL"),
        ),
        sa.Index(
            "ix_batches_params_kept",
            "opened_at",
            sqlite_where=sa.text("params_pruned_at IS NULL"),
            postgresql_where=sa.text("params_pruned_at IS NULL"),
        ),
        sa.Index(
            "ix_batches_answers_kept",
            "opened_at",
            sqlite_where=sa.text("answers_pruned_at IS NULL"),
            postgresql_where=sa.text("answers_pruned_at IS NULL"),
        ),
    )

    id: str = Field(primary_key=True, max_length=32)
    lane: str
    model: str
    headers: str  # JSON: the per-batch headers
    state: BatchState = Field(sa_column=state_column(BatchState))
    request_count: int = Field(default=0, sa_column=count())
    body_bytes: int = Field(default=0, sa_column=count())  # of the JSON body that will be posted
    claude_id: str | None = Field(default=None, unique=True)  # msgbatch_…
    parent_id: str | None = Field(default=None, max_length=32)  # the batch this one was split from
    priority: int = Field(default=0, sa_column=number())  # the highest of its requests
    submit_by: int | None = Field(default=None, sa_column=big())  # the earliest of its requests

    submissions: int = Field(default=0)  # how often it was posted, or tried to be
    due_at: int = Field(default=0, sa_column=count())  # nothing is done with it before then: back-off
    cursor_id: str | None = None  # newest batch Anthropic knew before the last post
    cursor_at: int | None = Field(default=None, sa_column=big())  # when it was that, by Anthropic's clock
    in_doubt_at: int | None = Field(default=None, sa_column=big())  # the answer was lost; kept if adopted
    sought_at: int | None = Field(default=None, sa_column=big())  # first look in vain, by Anthropic's clock
    strangers: str = "[]"  # JSON: ids adopted by mistake and let go
    marked: str | None = None  # JSON: the shared prefixes to be cached; None: not decided
    warm_up_id: str | None = Field(default=None, max_length=32)  # the batch that caches them first
    warm_until: int | None = Field(default=None, sa_column=big())  # it is waited for until then at most
    last_error: str | None = None

    succeeded: int = Field(default=0)
    errored: int = Field(default=0)
    canceled: int = Field(default=0)
    expired: int = Field(default=0)
    cost: Decimal | None = Field(default=None, sa_column=sa.Column(Dollars))
    list_price: Decimal | None = Field(default=None, sa_column=sa.Column(Dollars))

    opened_at: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))
    sealed_at: int | None = Field(default=None, sa_column=big())
    submitting_at: int | None = Field(default=None, sa_column=big())
    in_progress_at: int | None = Field(default=None, sa_column=big())
    expires_at: int | None = Field(default=None, sa_column=big())
    ended_at: int | None = Field(default=None, sa_column=big())
    finished_at: int | None = Field(default=None, sa_column=big())
    params_pruned_at: int | None = Field(default=None, sa_column=big())
    answers_pruned_at: int | None = Field(default=None, sa_column=big())


class Request(SQLModel, table=True):
    """One Messages API call and what became of it."""

    __tablename__ = "requests"
    __table_args__ = (
        *state_checks("requests", RequestState, finished_at=FINAL_REQUEST_STATES),
        sa.Index("ix_requests_batch", "batch_id"),
        sa.Index(
            # Not by the state: when a column that an index names changes, PostgreSQL writes all indexes of the row.
            "ix_requests_retryable",
            "retry_at",
            sqlite_where=sa.text("retry_at IS NOT NULL"),
            postgresql_where=sa.text("retry_at IS NOT NULL"),
        ),
        sa.Index(
            "ix_requests_cancel_requested",
            "batch_id",
            # Not finished_at too, which every row gets: as above, PostgreSQL would write all indexes then.
            sqlite_where=sa.text("cancel_requested_at IS NOT NULL"),
            postgresql_where=sa.text("cancel_requested_at IS NOT NULL"),
        ),
        sa.Index(
            "ix_requests_estimated",
            "client",
            "held_at",
            "estimate",
            sqlite_where=sa.text("estimate IS NOT NULL"),
            postgresql_where=sa.text("estimate IS NOT NULL"),
        ),
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
    submit_by: int | None = Field(default=None, sa_column=big())  # to Anthropic, by then
    prefix: str | None = Field(default=None, max_length=16)  # of tools and system prompt
    trace: str | None = None  # W3C traceparent of the enqueue
    estimate: Decimal | None = Field(default=None, sa_column=sa.Column(Dollars))  # of its client's budget
    held_at: int | None = Field(default=None, sa_column=big())  # since then it waits for its client's budget

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_read_tokens: int | None = None
    cost: Decimal | None = Field(default=None, sa_column=sa.Column(Dollars))
    list_price: Decimal | None = Field(default=None, sa_column=sa.Column(Dollars))

    enqueued_at: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))
    batched_at: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))
    retry_at: int | None = Field(default=None, sa_column=big())
    cancel_requested_at: int | None = Field(default=None, sa_column=big())  # nobody wants its answer now
    finished_at: int | None = Field(default=None, sa_column=big())


class Params(SQLModel, table=True):
    """What a request says: the params' JSON, byte for byte as the producer encoded it."""

    __tablename__ = "params"

    request_id: str = Field(primary_key=True, max_length=32)
    body: bytes


class AnswerRow(SQLModel, table=True):
    """What Claude answered: the `result` of its line, byte for byte."""

    __tablename__ = "answers"

    request_id: str = Field(primary_key=True, max_length=32)
    body: bytes


class DeliveryRow(SQLModel, table=True):
    """One answer on its way to one callback; a request has at most one."""

    __tablename__ = "deliveries"
    __table_args__ = (
        *state_checks(
            "deliveries",
            DeliveryState,
            delivered_at=(DeliveryState.DELIVERED,),
            discarded_at=(DeliveryState.DISCARDED,),
        ),
        sa.Index(
            "ix_deliveries_due",
            "state",
            "due_at",
            sqlite_where=sa.text("state IN ('available', 'delivering', 'retryable')"),
            postgresql_where=sa.text("state IN ('available', 'delivering', 'retryable')"),
        ),
        sa.Index(
            "ix_deliveries_discarded",
            "discarded_at",
            sqlite_where=sa.text("discarded_at IS NOT NULL"),
            postgresql_where=sa.text("discarded_at IS NOT NULL"),
        ),
    )

    request_id: str = Field(primary_key=True, max_length=32)
    channel: str
    target: str  # a URL, or a task's name
    state: DeliveryState = Field(sa_column=state_column(DeliveryState))
    attempt: int = Field(default=0)  # tries recorded so far; a replay starts anew
    claims: int = Field(default=0, sa_column=number())
    due_at: int = Field(
        sa_column=sa.Column(sa.BigInteger, nullable=False)
    )  # delivering: its courier's lease ends
    last_error: str | None = None
    delivered_at: int | None = Field(default=None, sa_column=big())
    discarded_at: int | None = Field(default=None, sa_column=big())


class DeliveryAttempt(SQLModel, table=True):
    """One try to deliver."""

    __tablename__ = "delivery_attempts"
    __table_args__ = (sa.Index("ix_delivery_attempts_request", "request_id"),)

    id: int | None = Field(
        default=None,
        sa_column=sa.Column(sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    )
    request_id: str = Field(max_length=32)
    attempt: int
    at: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))
    milliseconds: int
    status: int | None = None  # HTTP's, for a webhook
    detail: str | None = None  # the error, or the start of the receiver's answer


class Endpoint(SQLModel, table=True):
    """A webhook URL that gives trouble: it fails since then, or nothing is sent there until an operator says so."""

    __tablename__ = "endpoints"

    url: str = Field(primary_key=True)
    failing_since: int | None = Field(default=None, sa_column=big())  # no try has succeeded since
    stopped_at: int | None = Field(default=None, sa_column=big())
    reason: str | None = None  # why it was stopped


class Cancellation(SQLModel, table=True):
    """A wish to cancel what the tables don't hold (yet): a request, or all that a client enqueued until then."""

    __tablename__ = "cancellations"

    request_id: str = Field(primary_key=True, max_length=32)  # "": all of the client
    client: str = Field(primary_key=True)
    requested_at: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))


class LanePause(SQLModel, table=True):
    """A lane from which nothing is submitted for now."""

    __tablename__ = "lane_pauses"

    lane: str = Field(primary_key=True)
    reason: str
    paused_at: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))
    probe_at: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))  # when one batch may try again
    probes: int = Field(default=0)  # tries since
    # An operator's pause: nothing asks, and no success ends it.
    by_operator: bool = Field(
        default=False, sa_column=sa.Column(sa.Boolean, nullable=False, server_default=sa.false())
    )


class Refusal(SQLModel, table=True):
    """How often the batches of a model were refused with a status: HTTP's, or what took its place."""

    __tablename__ = "refusals"

    model: str = Field(primary_key=True)
    status: str = Field(primary_key=True)
    count: int = Field(default=0, sa_column=count())


class UsageRow(SQLModel, table=True):
    """What a client used of a model on a day (UTC). Never pruned."""

    __tablename__ = "usage"

    day: str = Field(primary_key=True, max_length=10)
    client: str = Field(primary_key=True)
    model: str = Field(primary_key=True)
    requests: int = Field(default=0, sa_column=count())
    input_tokens: int = Field(default=0, sa_column=count())
    output_tokens: int = Field(default=0, sa_column=count())
    cache_write_tokens: int = Field(default=0, sa_column=count())
    cache_read_tokens: int = Field(default=0, sa_column=count())
    unpriced: int = Field(
        default=0, sa_column=count()
    )  # of `requests`: those of a model without a known price
    cost: Decimal = Field(default=Decimal(0), sa_column=sa.Column(Dollars, nullable=False))
    list_price: Decimal = Field(default=Decimal(0), sa_column=sa.Column(Dollars, nullable=False))
