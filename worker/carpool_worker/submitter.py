"""Posts a sealed batch: spools its body, commits the intent, posts, commits the answer.

The intent stands in the table before the first byte leaves, so a batch whose answer was lost is known as such and is
never simply posted again; the rescuer finds out what became of it.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import sqlalchemy as sa

from carpool_worker.claude import Claude, Seen
from carpool_worker.database import now, read, write
from carpool_worker.exceptions import ClaudeError
from carpool_worker.models import Batch
from carpool_worker.rejecter import reject
from carpool_worker.retries import Postpone, Reject, after_submission, before_submission
from carpool_worker.states import ACCEPT, POSTPONE, SUBMIT, BatchState
from carpool_worker.store import batches, requests

log = logging.getLogger(__name__)

SPOOL_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class Submitted:
    """What a submission led to: the batch's state, and the batches made in its place where it was rejected."""

    state: BatchState
    replacements: tuple[str, ...] = ()
    error: str | None = None


def submit(engine: sa.Engine, claude: Claude, batch_id: str, seconds: float) -> Submitted | None:
    """Post one sealed batch, within `seconds`; None where it isn't sealed (any more)."""
    with read(engine) as connection:
        batch = batches.get(connection, batch_id)
    if batch is None or batch.state != BatchState.SEALED or batch.due_at > now():
        return None
    with _spooled(engine, batch_id) as (body, length):
        try:
            newest = claude.newest_id(json.loads(batch.headers))  # finds a bad key before 240 MB have left
        except ClaudeError as error:
            return _hold(engine, batch, error)
        if not _intend(engine, batch, newest):
            return None
        try:
            seen = claude.create(body, length, json.loads(batch.headers), seconds)
        except ClaudeError as error:
            return _settle(engine, batch_id, batch.submissions + 1, error)
    return accept(engine, batch_id, seen)


def accept(engine: sa.Engine, batch_id: str, seen: Seen) -> Submitted | None:
    """Commit Anthropic's id of a batch that was posted; None where the rescuer was faster."""
    with write(engine) as connection:
        moved = batches.move(
            connection,
            ACCEPT,
            batch_id,
            claude_id=seen.id,
            in_progress_at=now(),
            expires_at=seen.expires_at,
            in_doubt_at=None,
            last_error=None,
        )
    if not moved:
        log.warning("batch %s was accepted as %s, but it is no longer submitting", batch_id, seen.id)
        return None
    log.info("batch %s is in progress as %s", batch_id, seen.id)
    return Submitted(ACCEPT.target)


def _intend(engine: sa.Engine, batch: Batch, cursor_id: str | None) -> bool:
    with write(engine) as connection:
        return batches.move(
            connection,
            SUBMIT,
            batch.id,
            batch.submissions,
            cursor_id=cursor_id,
            submitting_at=now(),
            in_doubt_at=None,
            submissions=batch.submissions + 1,
        )


def _hold(engine: sa.Engine, batch: Batch, error: ClaudeError) -> Submitted:
    # Nothing was posted, so whatever went wrong the batch is still sealed and waits there.
    wait = before_submission(error, batch.submissions + 1)
    with write(engine) as connection:
        batches.note(connection, batch.id, submissions=batch.submissions + 1, **_waiting(wait, error))
    _tell(batch.id, wait, error)
    return Submitted(BatchState.SEALED, error=str(error))


def _settle(engine: sa.Engine, batch_id: str, submission: int, error: ClaudeError) -> Submitted | None:
    with write(engine) as connection:
        batch = batches.undecided(connection, batch_id, submission)
        if batch is None:
            log.warning("batch %s went on without the post that failed: %s", batch_id, error)
            return None
        decision = after_submission(error, batch.submissions)
        if isinstance(decision, Reject):
            replacements = reject(connection, batch, error)
            log.error("batch %s was rejected: %s", batch_id, error)
            return Submitted(BatchState.REJECTED, tuple(replacements), str(error))
        if isinstance(decision, Postpone):
            batches.move(connection, POSTPONE, batch_id, **_waiting(decision, error))
            _tell(batch_id, decision, error)
            return Submitted(BatchState.SEALED, error=str(error))
        batches.note(connection, batch_id, in_doubt_at=now(), last_error=f"in doubt: {error}")
        log.warning(
            "batch %s is in doubt (%s): it waits until the API shows what became of it", batch_id, error
        )
        return Submitted(BatchState.SUBMITTING, error=f"in doubt: {error}")


def _waiting(wait: Postpone, error: ClaudeError) -> dict[str, Any]:
    return {"due_at": now() + int(wait.seconds * 1000), "last_error": str(error)}


def _tell(batch_id: str, wait: Postpone, error: ClaudeError) -> None:
    if wait.operator:
        log.error("batch %s waits for an operator; asking again in %.0f s: %s", batch_id, wait.seconds, error)
    else:
        log.warning("batch %s waits %.0f s: %s", batch_id, wait.seconds, error)


@contextmanager
def _spooled(engine: sa.Engine, batch_id: str) -> Iterator[tuple[IO[bytes], int]]:
    """Write the batch's JSON body to a temporary file, the params byte for byte as they were enqueued."""
    with tempfile.TemporaryFile(buffering=SPOOL_BUFFER) as body:
        with read(engine) as connection:
            frame = b'{"requests":['
            for custom_id, params in requests.bodies(connection, batch_id):
                body.write(b'%b{"custom_id":"%b","params":%b}' % (frame, custom_id.encode(), params))
                frame = b","
        body.write(b"]}")
        length = body.tell()
        body.seek(0)
        yield body, length
