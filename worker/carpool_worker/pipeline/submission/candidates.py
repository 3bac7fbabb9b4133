"""Finds out which batches at Anthropic the posts of a batch in doubt may have made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from carpool_worker.claude.batch import RemoteBatch
from carpool_worker.claude.client import Claude
from carpool_worker.claude.results import parse
from carpool_worker.database import read
from carpool_worker.models import Batch
from carpool_worker.pipeline.submission.listing import Listing
from carpool_worker.policies.in_doubt import DoubtPolicy
from carpool_worker.store.batches import in_doubt


def candidates_of(
    engine: sa.Engine,
    listing: Listing,
    alike: Sequence[RemoteBatch],
    owners: Sequence[Batch],
    policy: DoubtPolicy,
) -> dict[str, set[str]]:
    """Return, for each possible owner, the ids of those of the remote batches `alike` that its posts may have made."""
    # What one possible owner has disowned may be another's: only what all of them have disowned is nobody's.
    disowned = [set(json.loads(batch.disowned_ids)) for batch in owners]
    nobodys = set.intersection(*disowned) if disowned else set()
    unknown = [one for one in unknown_of(engine, alike) if one.id not in nobodys]
    places = {remote.id: place for place, remote in enumerate(listing.remotes)}
    return {
        batch.id: {remote.id for remote in unknown if may_be_of(batch, remote, places, policy)}
        for batch in owners
    }


def unknown_of(engine: sa.Engine, remotes: Sequence[RemoteBatch]) -> list[RemoteBatch]:
    """Return the remote batches that are in no table: nobody knows whose they are."""
    ids = [remote.id for remote in remotes]
    with read(engine) as connection:
        known = in_doubt.known(connection, ids) | in_doubt.unowned(connection, ids)
    return [remote for remote in remotes if remote.id not in known]


def first_custom_id(claude: Claude, claude_id: str, headers: Mapping[str, str]) -> str | None:
    """Return the custom_id of some request of an ended batch; None if its results are empty or unreadable.

    Raises:
        ClaudeError, ResultsCut: the results can't be read.
    """
    first = next(iter(claude.results(claude_id, headers)), b"")
    return next(iter(parse([first])), None)


def may_be_of(
    batch: Batch,
    remote: RemoteBatch,
    places: Mapping[str, int],
    policy: DoubtPolicy,
    *,
    at_any_time: bool = False,
) -> bool:
    """Return whether a post of a batch may have made a remote batch, by their times and their places in the list.

    With `at_any_time` also a post that came much later than it may.
    """
    until = policy.made_until(batch)
    if not at_any_time and until is not None and not remote.may_be_until(until):
        return False
    if (cursor := places.get(batch.cursor_id or "")) is not None:
        return places[remote.id] < cursor
    # The cursor's batch was deleted since, or there was none.
    return remote.may_be_from(policy.made_from(batch))
