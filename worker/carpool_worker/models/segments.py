"""Segments: what up to 200 requests have in common, and their params and answers, packed (see carpool/segments.py).

A segment's id is a 64-bit integer that begins with the milliseconds of its creation, so ids sort by time.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from carpool_worker.models.columns import count, number


def _segment_id() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False)


class Segment(SQLModel, table=True):
    """What requests that were stored together have in common. It stays as long as they do."""

    __tablename__ = "segments"
    __table_args__ = (sa.Index("ix_segments_client", "client", "id"),)

    id: int = Field(sa_column=_segment_id())
    ends_after: int = Field(default=0, sa_column=count())  # no earlier did the last of its requests end
    client: str
    account: str | None = None  # whose API key the batch is made with; None: the default one
    gateway_key: str | None = None  # the key of the gateway that they came with
    model: str
    lane: str
    headers: str  # JSON: the per-batch headers
    callback: str | None = None  # JSON
    reply_to: str | None = None  # the Redis list to which their answers are pushed at once
    requests: int = Field(sa_column=number())
    keyed: int = Field(sa_column=number())  # how many of them came with an idempotency key that is kept
    ids: bytes  # of its requests, in the order of their positions, 16 bytes each


class Params(SQLModel, table=True):
    """The JSON of a segment's params, each byte for byte as the producer encoded it, packed."""

    __tablename__ = "params"

    id: int = Field(sa_column=_segment_id())  # of the segment
    body: bytes


class Answers(SQLModel, table=True):
    """Claude's answers to some requests of one client: the `result` of each line, byte for byte, packed."""

    __tablename__ = "answers"
    __table_args__ = (sa.Index("ix_answers_client", "client", "id"),)

    id: int = Field(sa_column=_segment_id())
    client: str
    ids: bytes  # of the requests, in the order of their positions, 16 bytes each
    body: bytes
