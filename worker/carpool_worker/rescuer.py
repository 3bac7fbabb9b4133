"""Finds out what became of batches whose create was never answered, and puts them right.

The list of batches made since decides. A batch is sent again only when the list shows none that could be it, long
after the last byte of the post can have left: a second post would be a second bill.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from carpool_worker.claude import Claude, Seen, longest_post
from carpool_worker.database import now, read, write
from carpool_worker.exceptions import ClaudeError, ResultsCut
from carpool_worker.models import Batch
from carpool_worker.results import parse
from carpool_worker.states import POSTPONE, BatchState
from carpool_worker.store import batches, requests
from carpool_worker.submitter import accept

log = logging.getLogger(__name__)

HEADSTART = 5_000
"""Milliseconds that a post is left alone before anybody looks for its batch."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an upload can last, and how long after the post's end the list is asked for its batch. Seconds."""

    submit_timeout: float
    settle_interval: float

    def ends(self, batch: Batch) -> int:
        """Return when a batch that no list shows is known not to exist, in milliseconds since the epoch."""
        # Without a doubt on record the submitter died, or still posts: it has until its timeout, and then some.
        posted = batch.in_doubt_at or (batch.submitting_at or 0) + int(
            longest_post(self.submit_timeout) * 1000
        )
        return posted + int(self.settle_interval * 1000)


def rescue(engine: sa.Engine, claude: Claude, patience: Patience) -> list[str]:
    """Look for every batch in doubt; return the ids of those whose doubt is over."""
    settled = []
    for (headers, request_count), doubted in _by_kind(_in_doubt(engine)).items():
        try:
            settled += _settle(engine, claude, doubted, json.loads(headers), request_count, patience)
        except (ClaudeError, ResultsCut) as error:
            log.warning("%d batches stay in doubt, the API can't be asked: %s", len(doubted), error)
    return settled


def _in_doubt(engine: sa.Engine) -> list[Batch]:
    headstart = now() - HEADSTART
    return [
        batch for batch in _submitting(engine) if batch.in_doubt_at or (batch.submitting_at or 0) < headstart
    ]


def _submitting(engine: sa.Engine) -> list[Batch]:
    with read(engine) as connection:
        return batches.in_states(connection, (BatchState.SUBMITTING,))


def _by_kind(doubted: Sequence[Batch]) -> dict[tuple[str, int], list[Batch]]:
    # Only batches of one workspace and one size can be taken for each other.
    kinds: defaultdict[tuple[str, int], list[Batch]] = defaultdict(list)
    for batch in doubted:
        kinds[batch.headers, batch.request_count].append(batch)
    return kinds


def _settle(
    engine: sa.Engine,
    claude: Claude,
    doubted: Sequence[Batch],
    headers: dict[str, str],
    request_count: int,
    patience: Patience,
) -> list[str]:
    asked_at = now()
    shown = _list_since(claude, doubted, headers, request_count)
    # The tables are read after the list: whatever it shows of ours has had its intent committed by now, so a batch
    # that is being posted this moment counts as a possible owner too.
    owners = [
        batch
        for batch in _submitting(engine)
        if batch.headers == doubted[0].headers and batch.request_count == request_count
    ]
    candidates = _unknown(engine, shown, doubted)
    if len(owners) == 1 and len(candidates) == 1:
        return _adopt(engine, owners[0], candidates[0])
    if candidates:
        return [
            batch_id
            for seen in candidates
            if seen.processing_status == "ended"
            for batch_id in _adopt_by_content(engine, claude, owners, seen, headers)
        ]
    return [batch.id for batch in doubted if patience.ends(batch) < asked_at and _send_again(engine, batch)]


def _list_since(
    claude: Claude, doubted: Sequence[Batch], headers: dict[str, str], request_count: int
) -> list[Seen]:
    # Cursors are Anthropic's own ids: no clock of ours is compared with one of theirs.
    oldest = min(doubted, key=lambda batch: batch.submitting_at or 0)
    newer = claude.list_newer(oldest.cursor_id, headers)
    return [seen for seen in newer if seen.request_count == request_count]


def _unknown(engine: sa.Engine, shown: Sequence[Seen], doubted: Sequence[Batch]) -> list[Seen]:
    strangers = {stranger for batch in doubted for stranger in json.loads(batch.strangers)}
    with read(engine) as connection:
        known = batches.known(connection, [seen.id for seen in shown])
    return [seen for seen in shown if seen.id not in known | strangers]


def _adopt(engine: sa.Engine, batch: Batch, seen: Seen) -> list[str]:
    log.warning("batch %s was made after all: it is %s", batch.id, seen.id)
    return [batch.id] if accept(engine, batch.id, seen) else []


def _adopt_by_content(
    engine: sa.Engine, claude: Claude, owners: Sequence[Batch], seen: Seen, headers: dict[str, str]
) -> list[str]:
    """Tell whose batch an ended one is by a custom_id in its results; nobody's is not looked at again."""
    first = next(iter(claude.results(seen.id, headers)), b"")
    with read(engine) as connection:
        owner = requests.batch_of(connection, next(iter(parse([first])), ""))
    for batch in owners:
        if batch.id == owner:
            return _adopt(engine, batch, seen)
    with write(engine) as connection:
        for batch in owners:
            batches.note(connection, batch.id, strangers=json.dumps([*json.loads(batch.strangers), seen.id]))
    return []


def _send_again(engine: sa.Engine, batch: Batch) -> bool:
    log.warning("batch %s was never made: it will be sent again", batch.id)
    with write(engine) as connection:
        return batches.move(
            connection,
            POSTPONE,
            batch.id,
            due_at=0,
            in_doubt_at=None,
            last_error="its last post made no batch",
        )
