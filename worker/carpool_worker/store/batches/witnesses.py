"""SQL about witnesses: batches of ours that Anthropic's list must show, if it is to be believed about others."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import NamedTuple

import sqlalchemy as sa

from carpool.contract import WORKSPACE_HEADER
from carpool_worker.database import now
from carpool_worker.models import Batch
from carpool_worker.models.indexes import unfinished
from carpool_worker.models.tables import batches
from carpool_worker.states import OUT_BATCH_STATES
from carpool_worker.store import claude_keys
from carpool_worker.store.batches.rows import as_batch
from carpool_worker.units import DAY, Milliseconds

MOST_FINISHED = 100
"""The newest batches among which witnesses are looked for that Anthropic has done with."""

LISTED_FOR = Milliseconds(28 * DAY)
"""How long a batch is surely in the list: Anthropic archives it a day later."""

LIFETIME = DAY
"""From a batch's creation to its expiry, by Anthropic's clock."""


class Witness(NamedTuple):
    """A batch of ours at Anthropic; `created_at` is by Anthropic's clock. One that `is_out` can't have been deleted."""

    claude_id: str
    created_at: Milliseconds
    is_out: bool


def beside(connection: sa.Connection, batch: Batch) -> list[Witness]:
    """Return the witnesses of the workspace in which a batch was posted, newest first.

    A batch that was adopted is none until its results have shown that it is ours, nor is one that a key has posted of
    which it is not known that it is of the same workspace.
    """
    keys = claude_keys.load(connection)
    found = [
        _witness(one)
        for one in _candidates(connection)
        if _place(one) == _place(batch)
        and (batch.poster is None or keys.of_one_workspace(one.poster or "", batch.poster))
    ]
    return sorted(found, key=lambda one: one.created_at, reverse=True)


def in_fresh_workspaces(connection: sa.Connection, some: Iterable[Batch]) -> Collection[str]:
    """Return the ids of those batches in whose workspace there is no witness yet."""
    chosen = list(some)
    if not chosen:
        return frozenset()
    proven = {_place(batch) for batch in _candidates(connection)}
    return {batch.id for batch in chosen if _place(batch) not in proven}


def _place(batch: Batch) -> tuple[str | None, str | None]:
    return batch.account, workspace_of(batch)


def workspace_of(batch: Batch) -> str | None:
    """Return the workspace that a batch's headers name; None is the key's own."""
    return workspace_in(batch.headers)


def workspace_in(headers: str) -> str | None:
    """Return the workspace that headers (JSON) name; None is the key's own."""
    named: str | None = json.loads(headers).get(WORKSPACE_HEADER)
    return named


def _candidates(connection: sa.Connection) -> Iterable[Batch]:
    row = batches.c
    out = sa.select(batches).where(unfinished(*OUT_BATCH_STATES), row.in_doubt_at.is_(None))
    newest = sa.select(batches).where(row.claude_id.is_not(None)).order_by(row.id.desc()).limit(MOST_FINISHED)
    found = {one.id: as_batch(one) for query in (out, newest) for one in connection.execute(query)}
    oldest = now() - LISTED_FOR
    return [
        batch
        for batch in found.values()
        if _witness(batch).created_at > oldest and (batch.in_doubt_at is None or batch.finished_at)
    ]


def _witness(batch: Batch) -> Witness:
    created_at = batch.expires_at - LIFETIME if batch.expires_at else (batch.in_progress_at or 0)
    return Witness(str(batch.claude_id), Milliseconds(created_at), batch.state in OUT_BATCH_STATES)
