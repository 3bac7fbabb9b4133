"""Finds out what became of batches whose create was never answered, and puts them right.

The list of batches made since decides. A batch is sent again only when the list shows none that could be it, long
after the last byte of the post can have left: a second post would be a second bill. How long is told by the clock of
the API alone, in its answers: one of ours may jump, and two hosts' may differ.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from carpool.contract import WORKSPACE_HEADER
from carpool_worker.claude.batch import RemoteBatch
from carpool_worker.claude.client import Claude
from carpool_worker.claude.results import parse
from carpool_worker.claude.times import seconds_between
from carpool_worker.database import now, read, write
from carpool_worker.exceptions import ClaudeError, ResultsCut
from carpool_worker.models import Batch
from carpool_worker.pipeline.submission.submitter import accept
from carpool_worker.policies.in_doubt import DoubtPolicy
from carpool_worker.states import BatchState
from carpool_worker.store.batches import in_doubt, transitions
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.requests import rows as requests
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)

GONE_STATUSES = frozenset({400, 404})
"""What a list answers whose cursor is no batch any more."""

HEADSTART = 5_000
"""Milliseconds that a post is left alone before anybody looks for its batch."""


class BatchSignature(NamedTuple):
    """What batches that can be taken for each other have in common; their other headers don't tell them apart."""

    workspace: str | None
    request_count: int

    @classmethod
    def of(cls, batch: Batch) -> BatchSignature:
        """Return a batch's signature."""
        return cls(json.loads(batch.headers).get(WORKSPACE_HEADER), batch.request_count)

    @property
    def headers(self) -> dict[str, str]:
        """The headers that show its workspace."""
        return {WORKSPACE_HEADER: self.workspace} if self.workspace else {}


def rescue(engine: sa.Engine, claude: Claude, policy: DoubtPolicy) -> list[str]:
    """Look for every batch in doubt; return the ids of those whose doubt is over."""
    settled = []
    for signature, doubted in _by_signature(_in_doubt(engine)).items():
        try:
            settled += _settle(engine, claude, doubted, signature, policy)
        except (ClaudeError, ResultsCut) as error:
            log.warning("batches stay in doubt", count=len(doubted), error=str(error))
    return settled


def _in_doubt(engine: sa.Engine) -> list[Batch]:
    fresh = range(now() - HEADSTART, now() + 1)  # a time to come is of a clock that was wrong
    return [batch for batch in _submitting(engine) if batch.in_doubt_at or batch.submitting_at not in fresh]


def _submitting(engine: sa.Engine) -> list[Batch]:
    with read(engine) as connection:
        return batches.in_states(connection, (BatchState.SUBMITTING,))


def _by_signature(doubted: Sequence[Batch]) -> dict[BatchSignature, list[Batch]]:
    by_signature: defaultdict[BatchSignature, list[Batch]] = defaultdict(list)
    for batch in doubted:
        by_signature[BatchSignature.of(batch)].append(batch)
    return by_signature


def _settle(
    engine: sa.Engine,
    claude: Claude,
    doubted: Sequence[Batch],
    signature: BatchSignature,
    policy: DoubtPolicy,
) -> list[str]:
    shown = _list_since(claude, doubted, signature, policy.date_margin)
    looked_at = claude.answered_at
    # The tables are read after the list: whatever it shows of ours has had its intent committed by now, so a batch
    # that is being posted this moment counts as a possible owner too.
    owners = [batch for batch in _submitting(engine) if BatchSignature.of(batch) == signature]
    candidates = _unknown(engine, shown, owners)
    if len(owners) == 1 and len(candidates) == 1:
        return _adopt(engine, owners[0], candidates[0], in_doubt_at=owners[0].in_doubt_at or now())
    if candidates:
        return [
            batch_id
            for remote in candidates
            if remote.processing_status == "ended"
            for batch_id in _adopt_by_content(engine, claude, owners, remote, signature.headers)
        ]
    if _may_be_anothers(engine, shown):
        return []
    if looked_at is None:
        log.warning(
            "batches stay in doubt", count=len(doubted), error="the API's answers have no Date header"
        )
        return []
    _begin_search(engine, doubted, looked_at)
    return [
        batch.id
        for batch in doubted
        if batch.search_started_at is not None
        and seconds_between(batch.search_started_at, looked_at) >= policy.search_seconds(batch)
        and _send_again(engine, batch)
    ]


def _list_since(
    claude: Claude, doubted: Sequence[Batch], signature: BatchSignature, margin: float
) -> list[RemoteBatch]:
    # Cursors are Anthropic's own ids, and their order is told by its clock: where that can't tell, all are asked for.
    oldest = min(batch.cursor_at or 0 for batch in doubted) + margin * 1000
    cursors = {batch.cursor_id for batch in doubted if (batch.cursor_at or 0) <= oldest}
    newer = {
        remote.id: remote
        for cursor in sorted(cursors, key=str)
        for remote in _newer(claude, cursor, signature)
    }
    return [remote for remote in newer.values() if remote.request_count == signature.request_count]


def _newer(claude: Claude, cursor_id: str | None, signature: BatchSignature) -> list[RemoteBatch]:
    try:
        return list(claude.list_newer(cursor_id, signature.headers))
    except ClaudeError as error:
        if error.status not in GONE_STATUSES:
            raise
        return list(claude.list_newest(signature.headers))  # the cursor's batch was deleted since


def _begin_search(engine: sa.Engine, doubted: Sequence[Batch], looked_at: int) -> None:
    if first := [batch for batch in doubted if batch.search_started_at is None]:
        with write(engine) as connection:
            for batch in first:
                in_doubt.begin_search(connection, batch, looked_at)


def _unknown(engine: sa.Engine, shown: Sequence[RemoteBatch], owners: Sequence[Batch]) -> list[RemoteBatch]:
    # What one owner let go may be another's: only what is strange to all of them is nobody's.
    strange = [set(json.loads(batch.disowned_ids)) for batch in owners]
    nobodys = set.intersection(*strange) if strange else set()
    with read(engine) as connection:
        known = in_doubt.known(connection, [remote.id for remote in shown])
    return [remote for remote in shown if remote.id not in known | nobodys]


def _may_be_anothers(engine: sa.Engine, shown: Sequence[RemoteBatch]) -> bool:
    # What one batch of ours has adopted may be the other's that is in doubt: its results will tell.
    with read(engine) as connection:
        return in_doubt.any_adopted(connection, [remote.id for remote in shown])


def _adopt(engine: sa.Engine, batch: Batch, remote: RemoteBatch, in_doubt_at: int | None = None) -> list[str]:
    log.warning("batch in doubt found at Anthropic", batch=batch.id, claude_id=remote.id)
    return [batch.id] if accept(engine, batch.id, remote, in_doubt_at) else []


def _adopt_by_content(
    engine: sa.Engine, claude: Claude, owners: Sequence[Batch], remote: RemoteBatch, headers: dict[str, str]
) -> list[str]:
    """Tell whose batch an ended one is by a custom_id in its results; one that is nobody's is not looked at again."""
    first = next(iter(claude.results(remote.id, headers)), b"")
    custom_id = next(iter(parse([first])), None)
    if custom_id is None:
        return []
    with read(engine) as connection:
        owner = requests.batch_of(connection, custom_id)
    for batch in owners:
        if batch.id == owner:
            return _adopt(engine, batch, remote)
    with write(engine) as connection:
        for batch in owners:
            in_doubt.disown(connection, batch, remote.id)
    return []


def _send_again(engine: sa.Engine, batch: Batch) -> bool:
    with write(engine) as connection:
        now_known = in_doubt.undecided(connection, batch.id, batch.submissions)
        if now_known is None or now_known.search_started_at != batch.search_started_at:
            return False  # its submitter lives: it has failed only now, and the doubt begins anew
        why = "its last post made no batch"
        transitions.postpone(connection, batch.id, batch.submissions, error=why)
    return True
