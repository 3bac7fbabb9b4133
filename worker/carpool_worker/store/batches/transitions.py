"""A batch's transitions in SQL: one function each, which alone knows its guard and the columns that it sets and clears.

Each is one guarded UPDATE. If another process was faster, it changes nothing and returns False, and the caller stops. A
move that is made is recorded for the log.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from carpool_worker.models import Batch
from carpool_worker.models.tables import batches
from carpool_worker.states import (
    ACCEPT,
    CANCEL_BATCH,
    COMPLETE_BATCH,
    DISSOLVE,
    END,
    POSTPONE,
    REJECT,
    RELEASE,
    SEAL,
    SUBMIT,
    BatchState,
    Transition,
)
from carpool_worker.store.batches import log
from carpool_worker.units import Milliseconds

AT_ONCE = Milliseconds(0)
"""The `due_at` of a batch that waits for no back-off."""


def seal(connection: sa.Connection, batch_id: str, at: Milliseconds) -> bool:
    """Fix the requests of an open batch."""
    return _move(connection, SEAL, batch_id, sealed_at=at)


def submit(
    connection: sa.Connection,
    batch: Batch,
    *,
    cursor_id: str | None,
    cursor_at: int | None,
    poster: str | None,
    looked_at: int | None,
    at: Milliseconds,
) -> bool:
    """Commit the intent to post a sealed batch, unless it was posted or lost requests since `batch` was read.

    Its number of requests must be the one that is posted: a batch whose answer is lost is recognised by its size.
    `cursor_id` is the newest batch that Anthropic knew at `cursor_at`, before the first post of this one; `looked_at`
    is when its list was read before this post. Both times are by Anthropic's clock. `poster` is the key's fingerprint.
    """
    as_read = _is_submission(batch.submissions), batches.c.request_count == batch.request_count
    return _move(
        connection,
        SUBMIT,
        batch.id,
        *as_read,
        submissions=batch.submissions + 1,
        submitting_at=at,
        cursor_id=cursor_id,
        cursor_at=cursor_at,
        poster=poster,
        unseen_since=None,
        looked_at=looked_at,
        in_doubt_at=None,
        search_started_at=None,
    )


def accept(
    connection: sa.Connection,
    batch_id: str,
    *,
    claude_id: str,
    expires_at: int,
    in_doubt_at: int | None,
    at: Milliseconds,
) -> bool:
    """Keep Anthropic's id of a batch that was posted.

    With `in_doubt_at` it is adopted: only its results will confirm that it is this one.
    """
    return _move(
        connection,
        ACCEPT,
        batch_id,
        claude_id=claude_id,
        in_progress_at=at,
        expires_at=expires_at,
        in_doubt_at=in_doubt_at,
        last_error=None,
    )


def postpone(
    connection: sa.Connection, batch_id: str, submission: int, *, error: str, due_at: Milliseconds = AT_ONCE
) -> bool:
    """Seal a batch again whose post is known to have made nothing, unless it was posted again since `submission`."""
    return _move(
        connection,
        POSTPONE,
        batch_id,
        _is_submission(submission),
        due_at=due_at,
        in_doubt_at=None,
        search_started_at=None,
        last_error=error,
    )


def reject(connection: sa.Connection, batch_id: str, *, error: str, at: Milliseconds) -> bool:
    """Finish a batch that Anthropic will never take as it is; its requests have to be moved on by the caller."""
    return _move(connection, REJECT, batch_id, finished_at=at, last_error=error)


def cancel(connection: sa.Connection, batch_id: str) -> bool:
    """Record that Anthropic is canceling a batch."""
    return _move(connection, CANCEL_BATCH, batch_id)


def end(
    connection: sa.Connection,
    batch_id: str,
    *,
    succeeded: int,
    errored: int,
    canceled: int,
    expired: int,
    at: Milliseconds,
) -> bool:
    """Record that Anthropic is done with a batch, and how many of its requests ended how; it is due for collection."""
    return _move(
        connection,
        END,
        batch_id,
        ended_at=at,
        due_at=AT_ONCE,
        incomplete_at=None,
        succeeded=succeeded,
        errored=errored,
        canceled=canceled,
        expired=expired,
    )


def release(connection: sa.Connection, batch: Batch, at: Milliseconds) -> bool:
    """Give up the Anthropic batch that an ended batch had adopted: it is another program's. The search continues."""
    return _move(
        connection,
        RELEASE,
        batch.id,
        claude_id=None,
        disowned_ids=json.dumps([*json.loads(batch.disowned_ids), batch.claude_id]),
        in_doubt_at=at,
        search_started_at=None,
        ended_at=None,
        incomplete_at=None,
    )


def complete(connection: sa.Connection, batch_id: str, at: Milliseconds) -> bool:
    """Finish an ended batch whose requests have all been moved on."""
    return _move(connection, COMPLETE_BATCH, batch_id, finished_at=at, last_error=None)


def dissolve(connection: sa.Connection, batch_id: str, at: Milliseconds, why: str | None = None) -> bool:
    """Finish a sealed batch without posting it, as all of its requests were canceled, or for another reason."""
    return _move(connection, DISSOLVE, batch_id, finished_at=at, last_error=why)


def _move(
    connection: sa.Connection,
    transition: Transition[BatchState],
    batch_id: str,
    *guards: sa.ColumnElement[bool],
    **values: Any,
) -> bool:
    from_a_source = batches.c.state.in_(transition.sources)
    guarded = sa.update(batches).where(batches.c.id == batch_id, from_a_source, *guards)
    moving = guarded.values(state=transition.target, **values).returning(*log.COLUMNS)
    moved = connection.execute(moving).one_or_none()
    if moved:
        log.record(connection, transition, moved, values.get("last_error"))
    return moved is not None


def _is_submission(number: int) -> sa.ColumnElement[bool]:
    return batches.c.submissions == number
