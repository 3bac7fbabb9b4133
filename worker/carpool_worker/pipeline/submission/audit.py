"""The audit: Anthropic's list of the last days against the tables. Whatever ran twice is named.

Nothing that Carpool does runs a request twice. But a restored backup, a failover to a copy that lagged, or a relay that
repeats posts can. Then there are batches at Anthropic that no table knows, and their results name requests of ours. One
whose requests are still to be posted is adopted (see adopter.py). Otherwise the audit changes nothing, here or there,
but for notes on what it has found (`unowned_batches`): what is noted as an orphan makes the posts that follow more
careful (see look.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import islice, takewhile
from typing import NamedTuple

import sqlalchemy as sa

from carpool.contract import WORKSPACE_HEADER
from carpool_worker.claude.batch import RemoteBatch
from carpool_worker.claude.client import Claude
from carpool_worker.database import now, read, write
from carpool_worker.exceptions import ClaudeError
from carpool_worker.models import Batch, UnownedBatch
from carpool_worker.pipeline.submission import adopter
from carpool_worker.pipeline.submission.whose import Requests, read_whole
from carpool_worker.states import BatchState
from carpool_worker.store import claude_keys
from carpool_worker.store.batches import in_doubt, unowned
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.reports import batches as report
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import Milliseconds

log = get_logger(__name__)

PAGE = 1_000
"""Batches of a list that are compared with the tables at a time."""

MOST_NAMED = 1_000
"""Findings of a kind that are kept; the others are only counted."""


class Whose(StrEnum):
    """What a batch at Anthropic is that no table knows, as that of a batch of ours."""

    TWICE = "twice"
    """It has requests of ours, whose batch is another one at Anthropic."""
    ADOPTED = "adopted"
    """It had run requests of ours that were still to be posted: it is a batch of ours now, and they are not posted."""
    NAMELESS = "nameless"
    """Its requests have names such as Carpool gives, and no table knows them: lost rows, or another Carpool's."""
    STRANGE = "strange"
    """Another program's."""
    UNREAD = "unread"
    """It can't be known, at least not yet."""


class ForeignBatch(NamedTuple):
    """A batch at Anthropic that is none of ours; `answered` is how many requests of ours have an answer there."""

    verdict: Whose
    claude_id: str
    batch_id: str | None = None  # ours, to which its requests belong
    answered: int = 0  # of an adopted one: the requests that it brought
    why: str | None = None  # it can't be known


@dataclass(frozen=True)
class AuditedList:
    """A workspace, as a key of an account sees it."""

    account: str | None
    workspace: str | None  # that was asked for; None: the key's own
    posted: int = 0  # batches that should be in its list, by the tables
    listed: int = 0
    known: int = 0  # of these: batches of ours
    error: str | None = None  # why the list could not be read to its end

    @property
    def is_blind(self) -> bool:
        """Whether its list shows none of our batches, though there should be some: it proves nothing."""
        return self.posted > 0 and self.known == 0 and self.error is None


@dataclass
class Audit:
    """What an audit has found."""

    places: list[AuditedList] = field(default_factory=list)
    counts: dict[Whose, int] = field(default_factory=lambda: dict.fromkeys(Whose, 0))
    findings: list[ForeignBatch] = field(default_factory=list)  # but for strangers

    @property
    def is_clean(self) -> bool:
        """Whether nothing ran twice, as far as can be known, and each list was read."""
        return not self.counts[Whose.TWICE] and not any(
            place.error or place.is_blind for place in self.places
        )

    def add(self, finding: ForeignBatch) -> None:
        """Count a finding, and keep it unless there are too many."""
        self.counts[finding.verdict] += 1
        if finding.verdict is not Whose.STRANGE and self.counts[finding.verdict] <= MOST_NAMED:
            self.findings.append(finding)


class _Asked(NamedTuple):
    """Whom to ask for a list, and with which headers."""

    claude: Claude
    place: AuditedList
    headers: dict[str, str]


def _ignore(listed: int) -> None:
    """Take no notice of the progress."""


def audit(
    engine: sa.Engine,
    claudes: Sequence[Claude],
    since: Milliseconds,
    progress: Callable[[int], None] = _ignore,
) -> Audit:
    """Compare the lists of all keys' workspaces back to `since` with the tables; `progress` gets batches compared.

    Called by the task `carpool.audit` each hour, and by `carpool reconcile`. It reads the lists page by page, and the
    results of each ended batch that no table knows once, in chunks: a stranger is noted as one, and not read again.
    """
    found = Audit()
    for asked in list(_asked(engine, claudes, since)):
        place = asked.place
        try:
            recent = takewhile(lambda one: one.may_be_from(since), asked.claude.list_newest(asked.headers))
            while page := list(islice(recent, PAGE)):
                known = _compare(engine, asked, page, found)
                place = replace(place, listed=place.listed + len(page), known=place.known + known)
                progress(len(page))
        except ClaudeError as error:
            place = replace(place, error=str(error))
            log.warning("list not audited", account=place.account, error=str(error))
        found.places.append(place)
    if twice := found.counts[Whose.TWICE]:
        log.error("requests ran twice", batches=twice)
    return found


def _asked(engine: sa.Engine, claudes: Sequence[Claude], since: Milliseconds) -> Iterator[_Asked]:
    """Yield each workspace once, though several keys may see it: those in use come before retired ones."""
    with read(engine) as connection:
        posted = report.posted_since(connection, since)
        keys = claude_keys.load(connection)
    seen = set()
    for claude in claudes:
        account = claude.credentials.account
        for workspace in sorted({None} | {where for who, where in posted if who == account}, key=str):
            headers = {WORKSPACE_HEADER: workspace} if workspace else {}
            secret = claude.secret(headers)
            key = keys.find(secret)
            same = (account, key.same_as if key else secret)
            if same not in seen:
                seen.add(same)
                yield _Asked(
                    claude, AuditedList(account, workspace, posted.get((account, workspace), 0)), headers
                )


def _compare(engine: sa.Engine, asked: _Asked, page: Sequence[RemoteBatch], found: Audit) -> int:
    """Look at one page of a list; return how many of its batches are ours."""
    ids = [remote.id for remote in page]
    with read(engine) as connection:
        known = in_doubt.known(connection, ids)
        notes = unowned.notes(connection, ids)
    for remote in page:
        if remote.id not in known:
            note = notes.get(remote.id)
            found.add(_of_note(engine, asked, remote, note) if note else _of_unknown(engine, asked, remote))
    return len(known) + sum(note.batch_id is not None for note in notes.values())


def _of_note(engine: sa.Engine, asked: _Asked, remote: RemoteBatch, note: UnownedBatch) -> ForeignBatch:
    if note.batch_id is None:
        return ForeignBatch(Whose.NAMELESS if note.is_lost else Whose.STRANGE, remote.id)
    if note.run_twice is not None:
        return ForeignBatch(Whose.TWICE, remote.id, note.batch_id, note.run_twice)
    answered = 0
    if isinstance(read := read_whole(engine, asked.claude, remote, asked.headers), Requests):
        answered = read.answered.total()
        with write(engine) as connection:
            unowned.count_twice(connection, remote.id, answered)
    return ForeignBatch(
        Whose.TWICE, remote.id, note.batch_id, answered, None if isinstance(read, Requests) else read
    )


def _of_unknown(engine: sa.Engine, asked: _Asked, remote: RemoteBatch) -> ForeignBatch:
    read = read_whole(engine, asked.claude, remote, asked.headers)
    if not isinstance(read, Requests):
        return ForeignBatch(Whose.UNREAD, remote.id, why=read)
    if read.sent:
        # A request that fails there is tried again, and this batch may have run that try.
        why = f"it has requests of batch {min(read.sent)}, which is being posted, in doubt or not collected"
        return ForeignBatch(Whose.UNREAD, remote.id, min(read.sent), why=why)
    if read.unsent:
        if ours := adopter.adopt(engine, asked.claude, remote, asked.headers, read.unsent):
            return ForeignBatch(Whose.ADOPTED, remote.id, ours.batch, ours.requests)
        return ForeignBatch(Whose.UNREAD, remote.id, why="its requests are on the move")
    if read.ours:
        return _of_ours(engine, remote, read)
    if read.unreadable or not read.lines:
        return ForeignBatch(Whose.UNREAD, remote.id, why="its results have no line that names a request")
    with write(engine) as connection:
        headers = json.dumps(asked.headers)
        unowned.add_stranger(connection, remote, headers, now(), is_lost=not read.is_strange)
    return ForeignBatch(Whose.STRANGE if read.is_strange else Whose.NAMELESS, remote.id)


def _of_ours(engine: sa.Engine, remote: RemoteBatch, read: Requests) -> ForeignBatch:
    [(owner, _)] = read.ours.most_common(1)
    answered = read.answered.total()
    with write(engine) as connection:
        # Read after the results: it may have been accepted, or found by the rescuer, meanwhile.
        batch = batches.get(connection, owner)
        if batch is None or batch.claude_id == remote.id or batch.state is BatchState.SUBMITTING:
            return ForeignBatch(Whose.UNREAD, remote.id, owner, why="it is being posted, or in doubt")
        if batch.claude_id is None and not batch.finished_at:
            return ForeignBatch(Whose.UNREAD, remote.id, owner, why="its requests are on the move")
        _note(connection, batch, remote, answered)
    return ForeignBatch(Whose.TWICE, remote.id, owner, answered)


def _note(connection: sa.Connection, batch: Batch, remote: RemoteBatch, answered: int) -> None:
    if unowned.add_orphan(connection, batch, remote, now(), is_lost=True):
        log.error(
            "batch at Anthropic has requests of another", batch=batch.id, claude_id=remote.id, count=answered
        )
    unowned.count_twice(connection, remote.id, answered)
