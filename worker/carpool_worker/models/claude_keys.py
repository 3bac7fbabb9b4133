"""The API keys that batches were made with. The keys themselves are never stored."""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from carpool_worker.models.columns import big


class ClaudeKey(SQLModel, table=True):
    """A key of Anthropic's API, as used at one address and for one workspace, by its salted fingerprint.

    Keys with the same `same_as` are known to be of one workspace: each has seen a batch that another of them posted.
    """

    __tablename__ = "claude_keys"

    fingerprint: str = Field(primary_key=True)
    same_as: str  # the fingerprint of one of the keys of its workspace
    account: str | None = None  # None: the default one
    organization: str | None = None  # as the API's answers named it
    workspace: str | None = None  # likewise
    first_used_at: int = Field(sa_column=sa.Column(sa.BigInteger, nullable=False))
    saw_ours_at: int | None = Field(default=None, sa_column=big())  # when it first saw a batch of ours
