"""Finds out what became of batches whose post was never answered: adopts them, or has them posted again.

Anthropic's list of the batches made since then decides. A second post could be a second bill, so a batch is sent again
only if, long after its post must be over, the list still shows none that could be it. That time is measured by the
API's own clock, read from its answers: ours may jump, and those of two hosts may differ.

Terms: a batch of ours is *in doubt* once it was posted and no answer came. A *remote* batch is Anthropic's. A
*candidate* is a remote batch that was made since the post, is of the same size and workspace, and belongs to no batch
of ours that we know of. A *possible owner* of it is any batch of ours of that size and workspace whose post is
unanswered, whether it is in doubt or being posted at this moment.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from carpool.contract import WORKSPACE_HEADER
from carpool_worker.claude.batch import RemoteBatch
from carpool_worker.claude.client import REFUSED_STATUSES, Claude
from carpool_worker.claude.results import parse
from carpool_worker.claude.times import seconds_between
from carpool_worker.database import now, read, write
from carpool_worker.exceptions import ClaudeError, ResultsCut
from carpool_worker.models import Batch
from carpool_worker.pipeline.collection import recognition
from carpool_worker.pipeline.submission.submitter import accept
from carpool_worker.policies.in_doubt import DoubtPolicy
from carpool_worker.states import BatchState
from carpool_worker.store.batches import in_doubt, transitions
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.requests import rows as requests
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import SECOND, Milliseconds

log = get_logger(__name__)

GONE_STATUSES = frozenset({400, 404})
"""The API's answers to a list whose cursor is no longer a batch."""

HEADSTART = Milliseconds(5_000)
"""How long a post has before its batch is searched for."""


class BatchSignature(NamedTuple):
    """What batches that could be mistaken for each other have in common: nothing else in the list tells them apart."""

    workspace: str | None
    request_count: int

    @classmethod
    def of(cls, batch: Batch) -> BatchSignature:
        """Return a batch's signature."""
        return cls(json.loads(batch.headers).get(WORKSPACE_HEADER), batch.request_count)

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
            log.warning("batches stay in doubt", count=len(doubted), error=str(error))
            if isinstance(error, ClaudeError) and error.status in REFUSED_STATUSES:
                recognition.record_unseen(engine, doubted)
    return settled


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
    listed = _list_since(claude, doubted, signature, policy.date_margin)
    listed_at = claude.answered_at
    # Read after the list: the intent of every batch of ours on it is committed by now, so a batch that is being posted
    # at this moment counts as a possible owner too.
    owners = [batch for batch in _unanswered(engine) if BatchSignature.of(batch) == signature]
    if candidates := _candidates(engine, listed, owners):
        return _match(engine, claude, candidates, owners, signature.headers)
    if _may_be_misadopted(engine, listed):
        return []
    return _send_missing_again(engine, doubted, listed_at, policy)


def _list_since(
    claude: Claude, doubted: Sequence[Batch], signature: BatchSignature, margin: float
) -> list[RemoteBatch]:
    # A cursor is a remote batch's id. The oldest would do, but Anthropic's clock can't always tell which one that is.
    oldest = min(batch.cursor_at or 0 for batch in doubted) + margin * SECOND
    cursors = {batch.cursor_id for batch in doubted if (batch.cursor_at or 0) <= oldest}
    newer = {
        remote.id: remote
        for cursor in sorted(cursors, key=str)
        for remote in _newer(claude, cursor, signature)
    }
    return [remote for remote in newer.values() if remote.may_have(signature.request_count)]


def _newer(claude: Claude, cursor_id: str | None, signature: BatchSignature) -> list[RemoteBatch]:
    try:
        return list(claude.list_newer(cursor_id, signature.headers))
    except ClaudeError as error:
        if error.status not in GONE_STATUSES:
            raise
        return list(claude.list_newest(signature.headers))  # the cursor's batch was deleted since


def _candidates(
    engine: sa.Engine, listed: Sequence[RemoteBatch], owners: Sequence[Batch]
) -> list[RemoteBatch]:
    # What one possible owner has disowned may be another's: only what all of them have disowned is nobody's.
    disowned = [set(json.loads(batch.disowned_ids)) for batch in owners]
    nobodys = set.intersection(*disowned) if disowned else set()
    with read(engine) as connection:
        known = in_doubt.known(connection, [remote.id for remote in listed])
    return [remote for remote in listed if remote.id not in known | nobodys]


def _match(
    engine: sa.Engine,
    claude: Claude,
    candidates: Sequence[RemoteBatch],
    owners: Sequence[Batch],
    headers: dict[str, str],
) -> list[str]:
    """Adopt the only candidate for its only possible owner; of several, adopt those whose results name their owner."""
    if len(owners) == 1 and len(candidates) == 1:
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
    engine: sa.Engine, doubted: Sequence[Batch], listed_at: int | None, policy: DoubtPolicy
) -> list[str]:
    """Send again the batches that no list has shown for long enough, counted from the first list that did not."""
    if listed_at is None:
        log.warning(
            "batches stay in doubt", count=len(doubted), error="the API's answers have no Date header"
        )
        return []
    _begin_search(engine, doubted, listed_at)
    return [
        batch.id
        for batch in doubted
        if batch.search_started_at is not None
        and seconds_between(batch.search_started_at, listed_at) >= policy.search_seconds(batch)
        and _send_again(engine, batch)
    ]


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
    first = next(iter(claude.results(candidate.id, headers)), b"")
    custom_id = next(iter(parse([first])), None)
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
