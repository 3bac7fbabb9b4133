"""The look at Anthropic's list just before a post: is there a batch already that may be this one?

A relay may have repeated an earlier post, a process that stood still may have posted late, a restored database may not
know what was posted since its backup. A batch that no table knows, of the same size, is then a doubt instead of a post.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice, takewhile
from typing import NamedTuple

import sqlalchemy as sa

from carpool_worker.claude.batch import RemoteBatch
from carpool_worker.claude.client import Claude
from carpool_worker.database import now, read, write
from carpool_worker.exceptions import ClaudeError, ResultsCut
from carpool_worker.models import Batch
from carpool_worker.pipeline.submission.candidates import first_custom_id, may_be_of, unknown_of
from carpool_worker.policies.in_doubt import DoubtPolicy
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.batches import unowned
from carpool_worker.store.requests import rows as requests
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import DAY, Milliseconds

log = get_logger(__name__)

PAGE = 100
"""Batches that are read of the list before a first post, with one call."""

MOST_LISTED = 10_000
"""Batches that are read of it before a batch is posted once more: all since its first post, if they are no more."""

MOST_READ = 3
"""Ended batches whose results are opened, to see whose they are."""

REMEMBERED = Milliseconds(29 * DAY)
"""How long lost rows are a reason for doubts: Anthropic keeps results as long."""


class Look(NamedTuple):
    """What the list showed, by Anthropic's clock: the newest batch, when, and one that may be made of this batch."""

    cursor_id: str | None
    cursor_at: Milliseconds | None
    at: Milliseconds | None
    suspect: RemoteBatch | None = None


def look(engine: sa.Engine, claude: Claude, batch: Batch, policy: DoubtPolicy) -> Look:
    """Look at the list before a post of a batch.

    A batch that was posted before keeps the cursor of its first post: what any of its posts may have made is newer. On
    a first post, a batch of the same size is another program's, unless its results name requests of ours, or those of
    an earlier one did: then the tables have lost rows, and it may be this one.

    Raises:
        ClaudeError: the list can't be read.
    """
    headers = json.loads(batch.headers)
    newest = claude.newest(headers, PAGE)
    at = claude.answered_at
    if batch.submitting_at is not None and batch.cursor_at is not None:
        made = suspects(engine, claude, batch, policy)
        return Look(batch.cursor_id, Milliseconds(batch.cursor_at), at, made[0] if made else None)
    opened_at = _by_its_clock(batch.opened_at, at, policy)
    alike = [one for one in newest if _is_like(one, batch) and one.may_be_from(opened_at)]
    if suspect := _lost(engine, claude, batch, unknown_of(engine, alike)):
        return Look(None, opened_at, at, suspect)
    return Look(newest[0].id if newest else None, at, at)


def suspects(engine: sa.Engine, claude: Claude, batch: Batch, policy: DoubtPolicy) -> list[RemoteBatch]:
    """Return the unknown batches that earlier posts of this batch may have made, and that it has not disowned.

    Raises:
        ClaudeError: the list can't be read.
    """
    since = policy.made_from(batch)
    headers = json.loads(batch.headers)
    recent = takewhile(lambda one: one.may_be_from(since), claude.list_newest(headers))
    listed = list(islice(recent, MOST_LISTED))
    places = {remote.id: place for place, remote in enumerate(listed)}
    disowned = json.loads(batch.disowned_ids)
    # Once some have proved to be strangers, a late one is no reason for another doubt: there may be ever more.
    until = policy.made_until(batch) if disowned else None
    return [
        one
        for one in unknown_of(engine, [one for one in listed if _is_like(one, batch)])
        if one.id not in disowned
        and (until is None or one.may_be_until(until))
        and may_be_of(batch, one, places, policy, at_any_time=True)
    ]


def _lost(
    engine: sa.Engine, claude: Claude, batch: Batch, unknown: Sequence[RemoteBatch]
) -> RemoteBatch | None:
    """Return one of the unknown batches that may be this one, which the tables have forgotten; None if none may."""
    if not unknown:
        return None
    with read(engine) as connection:
        has_lost_rows = unowned.has_lost_rows(connection, now() - REMEMBERED)
    if has_lost_rows:
        return unknown[0]
    for remote in [one for one in unknown if one.processing_status == "ended"][:MOST_READ]:
        if owner := _owner(engine, claude, batch, remote):
            log.error("batch at Anthropic is ours, and not in the tables", batch=owner, claude_id=remote.id)
            if owner == batch.id:
                return remote
    log.warning("another program's batch looks like this one", batch=batch.id, claude_id=unknown[0].id)
    return None


def _owner(engine: sa.Engine, claude: Claude, batch: Batch, remote: RemoteBatch) -> str | None:
    """Return whose requests an ended batch has, and remember it; None if they are not ours, or can't be read."""
    try:
        custom_id = first_custom_id(claude, remote.id, json.loads(batch.headers))
    except (ClaudeError, ResultsCut):
        return None
    if custom_id is None:
        return None
    with write(engine) as connection:
        owner = requests.batch_of(connection, custom_id)
        owning = batches.get(connection, owner) if owner else None
        if owner is None:
            unowned.add_stranger(connection, remote, batch.headers, now())
        elif owning and owning.claude_id not in (None, remote.id):
            unowned.add_orphan(connection, owning, remote, now(), is_lost=True)
        elif owner != batch.id:
            return None  # the rescuer, or the look before its own post, finds out about it
    return owner


def _is_like(remote: RemoteBatch, batch: Batch) -> bool:
    return remote.may_have(batch.request_count)


def _by_its_clock(ours: int, answered_at: int | None, policy: DoubtPolicy) -> Milliseconds:
    """Return a time of our clock by Anthropic's, on the early side."""
    skew = answered_at - now() if answered_at is not None else 0
    return Milliseconds(ours + skew - int(policy.slack * 1_000))
