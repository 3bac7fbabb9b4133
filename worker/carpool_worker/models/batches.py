"""Batches, and what delays them: paused lanes and refused submissions."""

from __future__ import annotations

from decimal import Decimal

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from carpool_worker.models.columns import Dollars, big, count, identity, number, state_checks, state_column
from carpool_worker.states import FINISHED_BATCH_STATES, OUTCOMES, BatchState


class Batch(SQLModel, table=True):
    """A Message Batch, from its first request on."""

    __tablename__ = "batches"
    __table_args__ = (*state_checks("batches", BatchState, finished_at=FINISHED_BATCH_STATES),)

    id: str = Field(sa_column=identity(primary_key=True))
    lane: str
    account: str | None = None  # whose API key makes it; None: the default one
    shard: int = Field(default=0, sa_column=number())  # of the inbox that its requests came through
    model: str
    headers: str  # JSON: the per-batch headers
    state: BatchState = Field(sa_column=state_column(BatchState))
    request_count: int = Field(default=0, sa_column=count())
    body_bytes: int = Field(default=0, sa_column=count())  # of the JSON body to post
    claude_id: str | None = Field(default=None, unique=True)  # msgbatch_…
    parent_id: str | None = Field(
        default=None, sa_column=identity(nullable=True)
    )  # the batch this one was split from
    priority: int = Field(default=0, sa_column=number())  # the highest of its requests
    submit_by: int | None = Field(default=None, sa_column=big())  # the earliest of its requests
    deadline: int | None = Field(default=None, sa_column=big())  # the earliest of its requests, or earlier

    submissions: int = Field(default=0)  # posts so far, including those that could not begin
    due_at: int = Field(default=0, sa_column=count())  # not posted before then: backing off
    poster: str | None = None  # the fingerprint of the key of its last post (claude_keys)
    unseen_since: int | None = Field(
        default=None, sa_column=big()
    )  # since then no key is known to be of its workspace
    cursor_id: str | None = None  # the newest batch at Anthropic before the first post
    cursor_at: int | None = Field(
        default=None, sa_column=big()
    )  # when the cursor was read, by Anthropic's clock
    looked_at: int | None = Field(
        default=None, sa_column=big()
    )  # when Anthropic's list was looked at before the last post, by Anthropic's clock
    in_doubt_at: int | None = Field(
        default=None, sa_column=big()
    )  # when the answer to its post was lost; kept if a batch is adopted
    search_started_at: int | None = Field(default=None, sa_column=big())  # by Anthropic's clock
    disowned_ids: str = "[]"  # JSON: ids of batches at Anthropic that proved to be another program's
    marked: str | None = None  # JSON: the shared prefixes marked for the cache; None: not decided yet
    warm_up_id: str | None = Field(
        default=None, sa_column=identity(nullable=True)
    )  # the batch that writes those to the cache first
    warm_until: int | None = Field(
        default=None, sa_column=big()
    )  # it waits for its warm-up until then at most
    incomplete_at: int | None = Field(
        default=None, sa_column=big()
    )  # when its results were first read whole, and lacked some of its requests; by Anthropic's clock
    stopped_at: int | None = Field(
        default=None, sa_column=big()
    )  # when it was seen to be canceled at Anthropic's console, by Anthropic's clock
    clients: str | None = (
        None  # JSON: what it has of each client; counted only while there is no room for all
    )
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
    tallied_at: int | None = Field(default=None, sa_column=big())  # when it was added to the totals

    @property
    def outcomes(self) -> dict[str, int]:
        """How many of its requests have which outcome."""
        return {name: getattr(self, name) for name in OUTCOMES}


class LanePause(SQLModel, table=True):
    """A lane whose batches are not submitted for now."""

    __tablename__ = "lane_pauses"

    lane: str = Field(primary_key=True)
    reason: str
    paused_at: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))
    probe_at: int = Field(
        sa_column=sa.Column(sa.BigInteger, nullable=False)
    )  # from then on one batch may be posted to try
    probes: int = Field(default=0)  # batches posted to try since the pause began
    # Paused by an operator: no batch is posted to try, and only an operator resumes the lane.
    by_operator: bool = Field(
        default=False, sa_column=sa.Column(sa.Boolean, nullable=False, server_default=sa.false())
    )
    canceled_id: str | None = (
        None  # Anthropic's id of the batch whose cancellation at its console paused the lane
    )

    @property
    def is_by_hand(self) -> bool:
        """Whether an operator paused it with Carpool, and so knows of it."""
        return self.by_operator and self.canceled_id is None


class Refusal(SQLModel, table=True):
    """How often submissions of a model's batches failed with a status: HTTP's, or a word if no answer came."""

    __tablename__ = "refusals"

    model: str = Field(primary_key=True)
    status: str = Field(primary_key=True)
    count: int = Field(default=0, sa_column=count())
