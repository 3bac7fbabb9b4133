"""Finds out which API keys may see a batch: only such a key may say that it is not there.

To a key of another workspace, Anthropic answers as if our batches did not exist: a 404 for each, a list without them.
That must not count as absence, or they would be posted again, and their answers thrown away. So each batch keeps the
fingerprint of the key that posted it, and another key is believed only once it has seen a batch which that key, or one
that is known to be of the same workspace, has posted. Until a key is there that may see a batch, it waits
(`unseen_since`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from carpool_worker.claude.client import Claude
from carpool_worker.database import now, read, write
from carpool_worker.exceptions import ClaudeError
from carpool_worker.models import Batch
from carpool_worker.policies.retries import RESULTS_KEPT
from carpool_worker.store import claude_keys
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.batches import unseen
from carpool_worker.store.claude_keys import KnownKeys
from carpool_worker.store.reports import ids
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import SECOND

log = get_logger(__name__)

BLIND_STATUSES = frozenset({401, 403, 404})
"""The API's answers to a key that may not see a batch: it is not valid, has no right, or is of another workspace."""


class Seer(NamedTuple):
    """A client of a batch's account; `is_known` is whether its key is known to be of the workspace of its poster."""

    claude: Claude
    fingerprint: str
    is_known: bool


def seers(engine: sa.Engine, claudes: Sequence[Claude], batch: Batch) -> list[Seer]:
    """Return the clients of a batch's account, those first that are most likely to see it; new keys are stored.

    Each is known or not to be of the workspace in which the batch was posted, or is about to be.
    """
    headers = json.loads(batch.headers)
    own = [claude for claude in claudes if claude.credentials.account == batch.account]
    with read(engine) as connection:
        keys = claude_keys.load(connection)
    found = []
    for claude in own:
        key = keys.find(claude.secret(headers))
        fingerprint = key.fingerprint if key else _register(engine, claude, headers)
        found.append(Seer(claude, fingerprint, keys.of_one_workspace(fingerprint, batch.poster)))
    return sorted(found, key=lambda seer: (seer.claude.refused, not seer.is_known))


def judge(engine: sa.Engine, claudes: Sequence[Claude], batch: Batch) -> Claude | None:
    """Return a client that may say whether a batch is there: its key is known to be of its workspace; None if none is.

    Raises:
        ClaudeError: none is known, and one could not be asked whether it sees a batch of ours there.
    """
    candidates = seers(engine, claudes, batch)
    known = [seer.claude for seer in candidates if seer.is_known]
    if known and not known[0].refused:
        return known[0]
    introduced = (
        seer.claude for seer in candidates if not seer.is_known and _is_introduced(engine, seer, batch)
    )
    return next(introduced, known[0] if known else None)


def saw(engine: sa.Engine, seer: Seer, batch: Batch) -> Seer:
    """Record that a client has seen a batch of ours; return it as one whose key is known."""
    with write(engine) as connection:
        if claude_keys.recognize(connection, seer.fingerprint, batch.poster, now()):
            log.info("API key recognized", account=batch.account, key=seer.fingerprint, poster=batch.poster)
        if batch.poster is None:
            unseen.set_poster(connection, batch.id, seer.fingerprint)
    return seer._replace(is_known=True)


def reader_of(engine: sa.Engine, claudes: Sequence[Claude], batch_id: str) -> Claude | None:
    """Return the client that is most likely to see an ended batch; None if its account has none, or it is not there."""
    with read(engine) as connection:
        batch = batches.get(connection, batch_id)
    if batch is None:
        return None
    try:
        claude = judge(engine, claudes, batch)
    except ClaudeError as error:
        log.warning("no key recognized", batch=batch_id, error=str(error))
    else:
        if claude:
            record_seen(engine, [batch])
            return claude
        record_unseen(engine, [batch])
    return next((seer.claude for seer in seers(engine, claudes, batch)), None)


def record_unseen(engine: sa.Engine, out: Iterable[Batch]) -> None:
    """Record that no key may see these batches: they wait until one is there that may."""
    hidden = [batch.id for batch in out if batch.unseen_since is None]
    if not hidden:
        return
    with write(engine) as connection:
        newly = unseen.begin(connection, hidden, now())
    if newly:
        log.error("API keys see none of these batches", count=newly, batches=hidden[:3])


def record_seen(engine: sa.Engine, out: Iterable[Batch]) -> None:
    """Record that a key is there that may see these batches."""
    if shown := [batch.id for batch in out if batch.unseen_since is not None]:
        with write(engine) as connection:
            unseen.end(connection, shown)


def _register(engine: sa.Engine, claude: Claude, headers: dict[str, str]) -> str:
    with write(engine) as connection:
        return register(connection, claude, headers)


def register(connection: sa.Connection, claude: Claude, headers: dict[str, str]) -> str:
    """Return the fingerprint of the key with which a client calls with these headers; store it if it is new."""
    return claude_keys.register(
        connection,
        claude.secret(headers),
        claude.credentials.account,
        now(),
        organization=claude.organization,
        workspace=claude.workspace,
    )


def _is_introduced(engine: sa.Engine, seer: Seer, batch: Batch) -> bool:
    """Ask a key that is not known for the newest batch of ours in the workspace where a batch was posted."""
    with read(engine) as connection:
        posters = None if batch.poster is None else _siblings(claude_keys.load(connection), batch.poster)
        kept_since = ids.since(now() - int(RESULTS_KEPT * SECOND))
        newest = claude_keys.newest_posted(connection, posters, kept_since)
    if newest is None:
        return False
    try:
        seer.claude.retrieve(newest, json.loads(batch.headers))
    except ClaudeError as error:
        if error.status in BLIND_STATUSES:
            return False
        raise
    saw(engine, seer, batch)
    return True


def _siblings(keys: KnownKeys, poster: str) -> list[str]:
    return keys.siblings(poster) or [poster]
