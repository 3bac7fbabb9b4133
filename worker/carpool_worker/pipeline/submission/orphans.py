"""Cancels orphans: batches at Anthropic with requests of ours whose batch is another there already.

A post whose process stood still between the last look and the last bytes makes one. What it has not run by then is
not run twice.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

import sqlalchemy as sa

from carpool_worker import transition_log
from carpool_worker.claude.batch import RemoteBatch
from carpool_worker.claude.client import Claude
from carpool_worker.database import now, read, write
from carpool_worker.exceptions import ClaudeError
from carpool_worker.models import Batch, UnownedBatch
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.batches import unowned
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import HOUR

log = get_logger(__name__)

ENDED_STATUS = 400
"""The API's answer when a batch that is to be canceled has ended."""

LONGEST_LIFE = 25 * HOUR
"""Milliseconds after which a batch has ended by itself, whether it could be canceled or not."""


def withdraw(engine: sa.Engine, claude: Claude, batch: Batch, remote: RemoteBatch) -> None:
    """Keep the id of a batch that was made too late, and cancel it; do nothing if it is the batch's own after all.

    Called by the submitter if the batch was no longer being submitted when the API's answer came. The rescuer may have
    found that very batch in the list before; then all is well.
    """
    with write(engine) as connection:
        current = batches.get(connection, batch.id)
        if current is not None and current.claude_id == remote.id:
            return
        unowned.add_orphan(connection, batch, remote, now())
        twice = {"batch": batch.id, "claude_id": remote.id, "requests": remote.request_count}
        transition_log.record(connection, "batch posted twice, canceling its orphan", logging.ERROR, **twice)
    cancel_orphans(engine, [claude])


def cancel_orphans(engine: sa.Engine, claudes: Sequence[Claude]) -> None:
    """Cancel the orphans that are not canceled yet; the rescuer calls this until all are.

    `claudes` are clients for the keys of any accounts.
    """
    with read(engine) as connection:
        orphans = unowned.unsettled(connection)
    for orphan in orphans:
        own = [claude for claude in claudes if claude.credentials.account == orphan.account]
        if any(_is_over(claude, orphan) for claude in own):
            with write(engine) as connection:
                unowned.settle(connection, orphan.claude_id, now())


def _is_over(claude: Claude, orphan: UnownedBatch) -> bool:
    try:
        claude.cancel(orphan.claude_id, json.loads(orphan.headers))
    except ClaudeError as error:
        if error.status == ENDED_STATUS or now() - orphan.found_at > LONGEST_LIFE:
            return True
        log.warning("orphan not canceled", claude_id=orphan.claude_id, error=str(error))
        return False
    log.warning("orphan canceled", batch=orphan.batch_id, claude_id=orphan.claude_id)
    return True
