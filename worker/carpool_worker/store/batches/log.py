"""The log line of a batch's transition."""

from __future__ import annotations

import logging
from typing import Any

import sqlalchemy as sa

from carpool_worker import database, transition_log
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

SINCE: dict[Transition[BatchState], str] = {
    SEAL: "opened_at",
    SUBMIT: "sealed_at",
    ACCEPT: "submitting_at",
    POSTPONE: "submitting_at",
    REJECT: "submitting_at",
    CANCEL_BATCH: "in_progress_at",
    END: "in_progress_at",
    RELEASE: "in_progress_at",
    COMPLETE_BATCH: "ended_at",
    DISSOLVE: "sealed_at",
}
"""The column that says since when a batch was in the state that it leaves."""

LEVELS: dict[Transition[BatchState], int] = {
    REJECT: logging.ERROR,
    POSTPONE: logging.WARNING,
    RELEASE: logging.WARNING,
}
"""The levels of their lines; all others are INFO."""

NAMES = ("id", "claude_id", "model", "lane", "request_count", *sorted({*SINCE.values()}))
COLUMNS = [batches.c[name] for name in NAMES]
"""The columns that the line needs."""


def record(
    connection: sa.Connection, transition: Transition[BatchState], batch: sa.Row[Any], error: str | None
) -> None:
    """Record a batch's transition; its row has the COLUMNS, as they are after it."""
    since = batch._mapping[SINCE[transition]]
    transition_log.record(
        connection,
        f"batch {transition.target}",
        LEVELS.get(transition, logging.INFO),
        move=transition.verb,
        batch=batch.id,
        claude_id=batch.claude_id,
        model=batch.model,
        lane=batch.lane,
        requests=batch.request_count,
        seconds=None if since is None else (database.now() - since) / 1_000,
        error=error,
    )
