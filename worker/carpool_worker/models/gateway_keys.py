"""Keys of the gateway, their secrets' hashes, warnings about their budgets, and clients' secrets of webhooks."""

from __future__ import annotations

from decimal import Decimal

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from carpool_worker.models.columns import Dollars, Id, big, identity


def _moment() -> sa.Column[int]:
    return sa.Column(sa.BigInteger, nullable=False)


class GatewayKeyRow(SQLModel, table=True):
    """A key of the gateway, and what its holder may do. It is revoked, and never deleted: usage has its name."""

    __tablename__ = "gateway_keys"

    id: str = Field(sa_column=identity(primary_key=True))
    name: str = Field(sa_column=sa.Column(sa.String, nullable=False, unique=True))
    client: str = Field(index=True)
    scopes: str  # JSON, a list, as are the other two
    models: str
    callback_hosts: str
    requests_a_minute: int | None = None
    most_queued: int | None = None
    most_held: int | None = None
    day: Decimal | None = Field(default=None, sa_column=sa.Column(Dollars))  # its budget, as the next two
    month: Decimal | None = Field(default=None, sa_column=sa.Column(Dollars))
    over: str  # wait or refuse
    lowest_priority: int
    highest_priority: int
    workspaces: bool  # may choose Anthropic's workspace
    deadline: int | None = None  # seconds, of requests that name none
    deadline_policy: str | None = None  # what that may cost
    created_at: int = Field(sa_column=_moment())
    expires_at: int | None = Field(default=None, sa_column=big())
    expires_after: int | None = Field(default=None, sa_column=big())  # from its first use
    first_used_at: int | None = Field(default=None, sa_column=big())
    last_used_at: int | None = Field(default=None, sa_column=big())  # within a minute
    revoked_at: int | None = Field(default=None, sa_column=big())


class GatewaySecret(SQLModel, table=True):
    """A secret of a key, by its SHA-256. A key has several while it is rotated."""

    __tablename__ = "gateway_secrets"

    hash: str = Field(primary_key=True, max_length=64)
    key_id: str = Field(sa_column=sa.Column(Id, nullable=False, index=True))
    hint: str  # its first characters
    created_at: int = Field(sa_column=_moment())
    valid_until: int | None = Field(default=None, sa_column=big())  # None: it is the newest


class BudgetWarning(SQLModel, table=True):
    """A warning that a share of a key's budget is used up: once for each share and period."""

    __tablename__ = "budget_warnings"

    gateway_key: str = Field(primary_key=True)
    period: str = Field(primary_key=True, max_length=10)  # a day as 2026-11-22, or a month as 2026-11
    percent: int = Field(sa_column=sa.Column(sa.SmallInteger, primary_key=True, autoincrement=False))
    warned_at: int = Field(sa_column=_moment())
    due_at: int | None = Field(default=None, sa_column=big())  # when its webhook is tried; None: it is done
    attempts: int = Field(default=0, sa_column=sa.Column(sa.SmallInteger, nullable=False, server_default="0"))
    budget: Decimal = Field(sa_column=sa.Column(Dollars, nullable=False))
    used: Decimal = Field(sa_column=sa.Column(Dollars, nullable=False))


class WebhookSecret(SQLModel, table=True):
    """A secret with which a client's webhooks are signed instead of the general one."""

    __tablename__ = "webhook_secrets"

    client: str = Field(primary_key=True)
    number: int = Field(sa_column=sa.Column(sa.Integer, primary_key=True, autoincrement=False))
    secret: str  # as it is: who signs needs it
    created_at: int = Field(sa_column=_moment())
    valid_until: int | None = Field(default=None, sa_column=big())  # None: it is the newest
