"""Finds out what became of batches whose post was never answered: adopts them, or has them posted again.

Anthropic's list of the batches made since then decides. A second post could be a second bill, so a batch is sent again
only if, long after its post must be over, the list still shows none that could be it, though it shows others of ours.
That time is measured by the API's own clock, read from its answers: ours may jump, and those of two hosts may differ.

Terms: a batch of ours is *in doubt* once it was posted and no answer came. A *remote* batch is Anthropic's. A
*candidate* is a remote batch that was made while the post may have been under way, is of the same size and workspace,
and belongs to no batch of ours that we know of. A *possible owner* of it is any batch of ours of that size and
workspace whose post is unanswered, whether it is in doubt or being posted at this moment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from carpool.contract import WORKSPACE_HEADER
from carpool_worker.claude.batch import RemoteBatch
from carpool_worker.claude.client import REFUSED_STATUSES, Claude
from carpool_worker.claude.times import seconds_between
from carpool_worker.database import now, read, write
from carpool_worker.exceptions import ClaudeError, ResultsCut
from carpool_worker.models import Batch
from carpool_worker.pipeline.collection import recognition
from carpool_worker.pipeline.submission.candidates import candidates_of, first_custom_id
from carpool_worker.pipeline.submission.listing import Control, Listing, read_listing
from carpool_worker.pipeline.submission.orphans import cancel_orphans
from carpool_worker.pipeline.submission.submitter import accept
from carpool_worker.policies.in_doubt import DoubtPolicy
from carpool_worker.states import BatchState
from carpool_worker.store.batches import in_doubt, transitions
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.batches.witnesses import workspace_of
from carpool_worker.store.requests import rows as requests
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import Milliseconds

log = get_logger(__name__)

HEADSTART = Milliseconds(5_000)
"""How long a post has before its batch is searched for."""


class BatchSignature(NamedTuple):
    """What batches that could be mistaken for each other have in common: nothing else in the list tells them apart."""

    workspace: str | None
    request_count: int

    @classmethod
    def of(cls, batch: Batch) -> BatchSignature:
        """Return a batch's signature."""
        return cls(workspace_of(batch), batch.request_count)

    @property
    def headers(self) -> dict[str, str]:
        """The headers that select its workspace: the API lists only that workspace's batches."""
        return {WORKSPACE_HEADER: self.workspace} if self.workspace else {}


def rescue(engine: sa.Engine, claudes: Sequence[Claude], policy: DoubtPolicy) -> list[str]:
    """Search for every batch in doubt; return the ids of those that are no longer `submitting`.

    Called by the task `carpool.rescue`, which beat sends, one process at a time, with a client for each key of each
    account. Each batch is settled in a transaction of its own: it is adopted (`in_progress`, with Anthropic's id), or
    sealed again to be posted once more, or it stays in doubt until the next call. A crash loses nothing: the search
    starts over, and the time at which it began is in the table. While the API can't be asked, or no key is known to be
    of the workspace in which a batch was posted, it stays in doubt.
    """
    cancel_orphans(engine, claudes)
    settled = []
    for doubted in _alike(_in_doubt(engine)):
        try:
            claude = recognition.judge(engine, claudes, doubted[0])
            if claude is None:
                recognition.record_unseen(engine, doubted)
                continue
            recognition.record_seen(engine, doubted)
            settled += _settle(engine, claude, doubted, BatchSignature.of(doubted[0]), policy)
        except (ClaudeError, ResultsCut) as error:
            if isinstance(error, ClaudeError) and error.status in REFUSED_STATUSES:
                recognition.record_unseen(engine, doubted)
            _leave_in_doubt(engine, doubted, f"the list of batches can't be read: {error}")
    return settled


def _leave_in_doubt(engine: sa.Engine, doubted: Sequence[Batch], why: str) -> None:
    log.warning("batches stay in doubt", count=len(doubted), error=why)
    with write(engine) as connection:
        for batch in doubted:
            in_doubt.annotate(connection, batch, f"in doubt: {why}")


def _in_doubt(engine: sa.Engine) -> list[Batch]:
    fresh = range(now() - HEADSTART, now() + 1)  # a time in the future comes from a clock that was wrong
    return [batch for batch in _unanswered(engine) if batch.in_doubt_at or batch.submitting_at not in fresh]


def _unanswered(engine: sa.Engine) -> list[Batch]:
    with read(engine) as connection:
        return batches.in_states(connection, (BatchState.SUBMITTING,))


def _alike(doubted: Sequence[Batch]) -> list[list[Batch]]:
    """Return those together that could be mistaken for each other and that one key posted."""
    alike: defaultdict[tuple[object, ...], list[Batch]] = defaultdict(list)
    for batch in doubted:
        alike[BatchSignature.of(batch), batch.account, batch.poster].append(batch)
    return list(alike.values())


def _settle(
    engine: sa.Engine,
    claude: Claude,
    doubted: Sequence[Batch],
    signature: BatchSignature,
    policy: DoubtPolicy,
) -> list[str]:
    """Settle batches in doubt that could be mistaken for each other, as far as the list allows."""
    since = min(policy.made_from(batch) for batch in doubted)
    listing = read_listing(engine, claude, doubted[0], signature.headers, since)
    # Read after the list: the intent of every batch of ours on it is committed by now, so a batch that is being posted
    # at this moment counts as a possible owner too.
    account = doubted[0].account
    unanswered = [batch for batch in _unanswered(engine) if batch.account == account]
    owners = [batch for batch in unanswered if BatchSignature.of(batch) == signature]
    alike = [remote for remote in listing.remotes if remote.may_have(signature.request_count)]
    fitting = candidates_of(engine, listing, alike, owners, policy)
    candidates = [remote for remote in alike if any(remote.id in fits for fits in fitting.values())]
    poster = doubted[0].poster
    settled = _match(engine, claude, candidates, owners, signature.headers, poster) if candidates else []
    if _may_be_misadopted(engine, alike):
        return settled
    missing = [batch for batch in doubted if batch.id not in settled and not fitting.get(batch.id)]
    return settled + _send_missing_again(engine, missing, listing, policy)


def _match(
    engine: sa.Engine,
    claude: Claude,
    candidates: Sequence[RemoteBatch],
    owners: Sequence[Batch],
    headers: dict[str, str],
    poster: str | None,
) -> list[str]:
    """Adopt the only candidate for its only possible owner; of several, adopt those whose results name their owner.

    An owner that another key has posted may be of another workspace than they are, so the results have to name it.
    """
    if len(owners) == 1 and len(candidates) == 1 and owners[0].poster == poster:
        [owner], [candidate] = owners, candidates
        return _adopt(engine, owner, candidate, in_doubt_at=owner.in_doubt_at or now())
    ended = [candidate for candidate in candidates if candidate.processing_status == "ended"]
    return [
        batch_id
        for candidate in ended
        for batch_id in _adopt_by_content(engine, claude, owners, candidate, headers)
    ]


def _may_be_misadopted(engine: sa.Engine, listed: Sequence[RemoteBatch]) -> bool:
    # What one batch of ours has adopted may belong to another that is in doubt: its results will show which.
    with read(engine) as connection:
        return in_doubt.any_adopted(connection, [remote.id for remote in listed])


def _send_missing_again(
    engine: sa.Engine, doubted: Sequence[Batch], listing: Listing, policy: DoubtPolicy
) -> list[str]:
    """Send again the batches that no list has shown for long enough, counted from the first list that did not.

    Only lists count that show those batches of ours which must be in them.
    """
    if not doubted:
        return []
    if disbelief := _disbelief(listing):
        _leave_in_doubt(engine, doubted, disbelief)
        return []
    _begin_search(engine, doubted, int(listing.at or 0))
    is_fresh = listing.control is Control.FRESH
    return [
        batch.id
        for batch in doubted
        if batch.search_started_at is not None
        and seconds_between(batch.search_started_at, listing.at) >= policy.search_seconds(batch, is_fresh)
        and _send_again(engine, batch)
    ]


def _disbelief(listing: Listing) -> str | None:
    """Return why nothing follows from what a list does not show; None if something does."""
    if listing.at is None:
        return "the API's answers have no Date header"
    if listing.control is Control.MISSING:
        return f"the list of batches does not show {listing.missing}, which is ours: it is not believed"
    return "the list of batches is too long to be read" if listing.is_cut else None


def _begin_search(engine: sa.Engine, doubted: Sequence[Batch], listed_at: int) -> None:
    if unsearched := [batch for batch in doubted if batch.search_started_at is None]:
        with write(engine) as connection:
            for batch in unsearched:
                in_doubt.begin_search(connection, batch, listed_at)


def _adopt(engine: sa.Engine, batch: Batch, remote: RemoteBatch, in_doubt_at: int | None = None) -> list[str]:
    log.warning("batch in doubt found at Anthropic", batch=batch.id, claude_id=remote.id)
    return [batch.id] if accept(engine, batch.id, remote, in_doubt_at) else []


def _adopt_by_content(
    engine: sa.Engine,
    claude: Claude,
    owners: Sequence[Batch],
    candidate: RemoteBatch,
    headers: dict[str, str],
) -> list[str]:
    """Adopt an ended candidate for the batch whose request its results name; if there is none, all owners disown it."""
    custom_id = first_custom_id(claude, candidate.id, headers)
    if custom_id is None:
        return []
    with read(engine) as connection:
        owner = requests.batch_of(connection, custom_id)
    for batch in owners:
        if batch.id == owner:
            return _adopt(engine, batch, candidate)
    with write(engine) as connection:
        for batch in owners:
            in_doubt.disown(connection, batch, candidate.id)
    return []


def _send_again(engine: sa.Engine, batch: Batch) -> bool:
    with write(engine) as connection:
        now_known = in_doubt.undecided(connection, batch.id, batch.submissions)
        if now_known is None or now_known.search_started_at != batch.search_started_at:
            return False  # its submitter is alive and has only now failed: the doubt starts over
        why = "its last post made no batch"
        transitions.postpone(connection, batch.id, batch.submissions, error=why)
    return True
