"""Reads Anthropic's list of batches, and decides whether what it does not show can be believed to be absent.

A list can be empty for other reasons than that there is no batch: a relay answers with a stub, filters what it shows or
serves an old copy; the key is of another workspace; the API lags. So absence needs a positive control: our own batches
that must be in the list are in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from itertools import islice
from typing import NamedTuple

import sqlalchemy as sa

from carpool_worker.claude.batch import RemoteBatch
from carpool_worker.claude.client import Claude
from carpool_worker.database import read
from carpool_worker.models import Batch
from carpool_worker.store.batches import witnesses
from carpool_worker.store.batches.witnesses import Witness
from carpool_worker.units import SECOND, Milliseconds

MOST_LISTED = 100_000
"""Batches that are read of a list at most: a hundred calls."""


class Control(Enum):
    """What the list shows of our own batches."""

    SEEN = "seen"
    """Those that must be in it are in it: it is believed."""
    MISSING = "missing"
    """One that must be in it is not: what it does not show may exist nevertheless."""
    FRESH = "fresh"
    """There is none in this workspace that could be in it."""


class Listing(NamedTuple):
    """A workspace's batches, newest first, as far back as was asked; when they were listed, by the API's clock."""

    remotes: Sequence[RemoteBatch]
    at: Milliseconds | None
    control: Control
    missing: str | None = None  # Anthropic's id of a batch of ours that must be in it
    is_cut: bool = False  # it has more since then than can be read


def read_listing(
    engine: sa.Engine, claude: Claude, batch: Batch, headers: Mapping[str, str], since: Milliseconds
) -> Listing:
    """Read the list of a batch's workspace back to `since`, and further until it shows a batch of ours.

    `since` is in milliseconds since the epoch, by the API's clock.

    Raises:
        ClaudeError: the list can't be read.
    """
    # Read before the list: what is accepted while the list is on its way need not be in it.
    with read(engine) as connection:
        ours = witnesses.beside(connection, batch)
    remotes = list(islice(_recent(claude.list_newest(headers), ours, since), MOST_LISTED))
    control, missing = _control(ours, remotes)
    return Listing(remotes, claude.answered_at, control, missing, len(remotes) == MOST_LISTED)


def _recent(
    remotes: Iterable[RemoteBatch], ours: Sequence[Witness], since: Milliseconds
) -> Iterator[RemoteBatch]:
    sought = {one.claude_id for one in ours}
    oldest = Milliseconds(min((one.created_at for one in ours), default=since) - SECOND)
    found = False
    for remote in remotes:
        if not remote.may_be_from(since) and (found or not remote.may_be_from(oldest)):
            return
        found = found or remote.id in sought
        yield remote


def _control(ours: Sequence[Witness], remotes: Sequence[RemoteBatch]) -> tuple[Control, str | None]:
    if not ours:
        return Control.FRESH, None
    listed = {remote.id for remote in remotes}
    reaches = min((one.created_at for one in remotes if one.created_at is not None), default=Milliseconds(0))
    for one in ours:
        if one.is_out and one.claude_id not in listed and one.created_at >= reaches:
            return Control.MISSING, one.claude_id
    if any(one.claude_id in listed for one in ours):
        return Control.SEEN, None
    return Control.MISSING, ours[0].claude_id
